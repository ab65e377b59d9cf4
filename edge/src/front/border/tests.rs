//! What comes in at the border, and what doesn't.

use super::*;

const LIST: &str = "/example.com/m/@v/list";
const ANY: Names<'static> = Names {
    served: &[],
    sni: None,
};

fn ask(method: &str, target: &str, authority: &str, names: Names<'_>) -> Result<Target, Reason> {
    let fields = Fields::default();
    let method = method.parse().unwrap();
    let raw = Raw {
        method: &method,
        target,
        authority,
        fields: &fields,
        has_body: false,
    };
    admit(raw, names, &Mounts::modules()).map_err(|refusal| refusal.reason)
}

fn refused(method: &str, target: &str, authority: &str, names: Names<'_>) -> Reason {
    ask(method, target, authority, names).unwrap_err()
}

#[test]
fn get_and_head_of_the_grammar_come_in() {
    for (method, is_head) in [("GET", false), ("HEAD", true)] {
        let Ok(Target::Module(asked)) = ask(method, LIST, "go.test:8080", ANY) else {
            panic!("{method} {LIST} is refused");
        };
        assert_eq!((asked.head, asked.request.path().as_str()), (is_head, LIST));
    }
    assert!(matches!(ask("GET", HEALTH, "x", ANY), Ok(Target::Health)));
}

#[test]
fn other_methods_are_405() {
    for method in [
        "POST", "PUT", "DELETE", "TRACE", "CONNECT", "OPTIONS", "get",
    ] {
        assert_eq!(refused(method, LIST, "x", ANY), Reason::Method, "{method}");
    }
}

#[test]
fn paths_outside_the_grammar_are_400_and_long_ones_414() {
    for target in [
        "/",
        "*",
        "/x",
        "/example.com/m/@v/list?a=b",
        "/a//b/@v/list",
        "/..",
        "/-",
        "/team-a/example.com/m/@v/list",
    ] {
        assert_eq!(
            refused("GET", target, "x", ANY),
            Reason::BadRequest,
            "{target}"
        );
    }
    assert_eq!(refused("GET", "/-/purge", "x", ANY), Reason::NoSuchEndpoint);
    assert_eq!(
        refused("GET", "/-/healthz/x", "x", ANY),
        Reason::NoSuchEndpoint
    );
    let long = format!("/{}", "a".repeat(5000));
    assert_eq!(refused("GET", &long, "x", ANY), Reason::PathTooLong);
}

#[test]
fn hosts_of_others_are_421() {
    let served = ["go.test".to_owned()];
    let names = Names {
        served: &served,
        sni: None,
    };
    assert!(ask("GET", LIST, "GO.test:8080", names).is_ok());
    assert!(ask("GET", LIST, "go.test.", names).is_ok());
    assert_eq!(
        refused("GET", LIST, "other.test", names),
        Reason::Misdirected
    );
    let names = Names {
        served: &[],
        sni: Some("go.test"),
    };
    assert!(ask("GET", LIST, "go.test:8443", names).is_ok());
    assert_eq!(
        refused("GET", LIST, "other.test", names),
        Reason::Misdirected
    );
}

#[test]
fn absolute_form_must_name_the_host_itself() {
    let own = format!("http://go.test{LIST}");
    assert!(ask("GET", &own, "go.test", ANY).is_ok());
    assert_eq!(refused("GET", &own, "other.test", ANY), Reason::Misdirected);
    assert_eq!(
        refused("GET", "http://go.test", "go.test", ANY),
        Reason::BadRequest
    );
}

#[test]
fn a_host_must_be_one() {
    for authority in [
        "go.test:8080",
        "[::1]",
        "[::1]:80",
        "10.0.0.1:1",
        "a_b.test",
    ] {
        assert!(ask("GET", LIST, authority, ANY).is_ok(), "{authority:?}");
    }
    for authority in ["", "a b", "user@go.test", "go.test/x", ":80"] {
        assert_eq!(
            refused("GET", LIST, authority, ANY),
            Reason::BadRequest,
            "{authority:?}"
        );
    }
}

/// What a GET of the list with these headers asks of the engine.
fn asked_with(fields: &Fields) -> Asked {
    let raw = Raw {
        method: &Method::GET,
        target: LIST,
        authority: "x",
        fields,
        has_body: false,
    };
    match admit(raw, ANY, &Mounts::modules()) {
        Ok(Target::Module(asked)) => asked,
        _ => panic!("refused"),
    }
}

const MIXED: &str = "[{prefix: /, kind: modules}, {prefix: /team-a/, kind: modules},
    {prefix: /dl/, kind: http, origin: 'http://origin.test'}]";
const TEAMS: &str = "[{prefix: /team-a/, kind: modules}, {prefix: /team-a/b/, kind: modules}]";

fn mixed(method: &str, target: &str) -> Result<Target, Reason> {
    through(MIXED, method, target)
}

fn through(mounts: &str, method: &str, target: &str) -> Result<Target, Reason> {
    let mounts = Mounts::new(&serde_yaml::from_str::<Vec<_>>(mounts).unwrap());
    let method = method.parse().unwrap();
    let fields = [
        ("connection", "x-a"),
        ("x-a", "1"),
        ("x-b", "2"),
        ("te", "trailers"),
    ];
    let fields = fields.into_iter().collect();
    let raw = Raw {
        method: &method,
        target,
        authority: "CDN.test",
        fields: &fields,
        has_body: method == Method::POST,
    };
    admit(raw, ANY, &mounts).map_err(|refusal| refusal.reason)
}

#[test]
fn the_grammar_is_for_module_mounts_only() {
    for (method, target, normal) in [
        ("GET", "/dl/A%2dB?c=%7e", "/dl/A-B?c=~"),
        ("POST", "/dl/x", "/dl/x"),
        ("BREW", "/x/../dl/y", "/dl/y"),
    ] {
        let Ok(Target::Http(asked)) = mixed(method, target) else {
            panic!("{method} {target} is not plain HTTP");
        };
        assert_eq!((asked.mount, asked.target.as_str()), (0, normal));
        assert_eq!(
            (asked.method.as_str(), asked.host.as_str()),
            (method, "cdn.test")
        );
        assert!(asked.headers.contains_key("x-b") && asked.headers.len() == 1);
    }
    assert!(matches!(mixed("GET", LIST), Ok(Target::Module(_))));
    assert!(matches!(mixed("GET", HEALTH), Ok(Target::Health)));
    for (method, target, reason) in [
        ("POST", LIST, Reason::Method),
        ("TRACE", "/dl/x", Reason::Method),
        ("CONNECT", "/dl/x", Reason::Method),
        ("GET", "/dl/../x", Reason::BadRequest),
        ("GET", "/dl/%", Reason::BadRequest),
        ("GET", "/dl/../-/purge", Reason::NoSuchEndpoint),
        ("GET", "/dl/../%2d/purge", Reason::NoSuchEndpoint),
    ] {
        assert_eq!(
            mixed(method, target).unwrap_err(),
            reason,
            "{method} {target}"
        );
    }
    let long = format!("/dl/{}", "a".repeat(9000));
    assert_eq!(mixed("GET", &long).unwrap_err(), Reason::PathTooLong);
}

#[test]
fn an_object_is_named_by_its_mount_too() {
    for (mounts, target, path) in [
        (MIXED, LIST, LIST),
        (
            MIXED,
            "/team-a/example.com/%6d/@v/list",
            "/team-a/example.com/m/@v/list",
        ),
        (
            TEAMS,
            "/team-a/example.com/m/@v/list",
            "/team-a/example.com/m/@v/list",
        ),
        (
            TEAMS,
            "/team-a/b/example.com/m/@v/list",
            "/team-a/b/example.com/m/@v/list",
        ),
    ] {
        let Ok(Target::Module(asked)) = through(mounts, "GET", target) else {
            panic!("{target} is refused");
        };
        assert_eq!(asked.path, path);
        assert_eq!(asked.request.path(), LIST);
    }
}

#[test]
fn a_prefix_has_one_spelling_and_each_mount_the_grammar() {
    for (mounts, method, target, reason) in [
        (
            MIXED,
            "GET",
            "/%74eam-a/example.com/m/@v/list",
            Reason::BadRequest,
        ),
        (
            MIXED,
            "GET",
            "/x/../team-a/example.com/m/@v/list",
            Reason::BadRequest,
        ),
        (
            MIXED,
            "GET",
            "/team-a/../team-a/example.com/m/@v/list",
            Reason::BadRequest,
        ),
        (
            MIXED,
            "GET",
            "/team-ab/example.com/m/@v/list",
            Reason::BadRequest,
        ),
        (
            MIXED,
            "GET",
            "/team-a/example.com/M/@v/list",
            Reason::BadRequest,
        ),
        (TEAMS, "GET", LIST, Reason::BadRequest),
        (TEAMS, "GET", "/team-a", Reason::BadRequest),
        (
            TEAMS,
            "GET",
            "/%74eam-a/example.com/m/@v/list",
            Reason::BadRequest,
        ),
        (TEAMS, "GET", "/-/purge", Reason::NoSuchEndpoint),
        (
            TEAMS,
            "POST",
            "/team-a/example.com/m/@v/list",
            Reason::Method,
        ),
        (
            MIXED,
            "POST",
            "/team-a/example.com/m/@v/list",
            Reason::Method,
        ),
    ] {
        let refused = through(mounts, method, target).unwrap_err();
        assert_eq!(refused, reason, "{method} {target}");
    }
    assert!(matches!(through(TEAMS, "GET", HEALTH), Ok(Target::Health)));
    let only_http = "[{prefix: /dl/, kind: http, origin: 'http://origin.test'}]";
    let elsewhere = through(only_http, "GET", LIST).unwrap_err();
    assert_eq!(elsewhere, Reason::NoSuchEndpoint);
}

#[test]
fn only_the_conditional_headers_go_on() {
    let fields = [
        ("x-http-method-override", "POST"),
        ("x-forwarded-host", "evil.test"),
        ("range", "bytes=0-1"),
        ("if-none-match", "\"a\""),
        ("if-none-match", "\"b\""),
        ("disable-module-fetch", "TRUE"),
    ];
    let mut fields: Fields = fields.into_iter().collect();
    let asked = asked_with(&fields);
    assert_eq!(asked.range.unwrap(), "bytes=0-1");
    assert_eq!(asked.if_none_match.unwrap(), "\"a\", \"b\"");
    assert!(asked.no_fetch && !asked.head && asked.if_range.is_none());
    fields.push(b"range", b"bytes=5-6");
    let asked = asked_with(&fields);
    assert!(asked.range.is_none(), "two Range fields are as none");
}
