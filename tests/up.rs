//! `modcdn up`, `check` and `--version`: what scripts and newcomers rely on.

mod harness;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::process::{Command, Output};

use serde_json::Value;

use harness::cluster::{Cluster, Options};
use harness::go::Go;
use harness::http::Client;
use harness::modules::{LARGE, Modules};
use harness::observe::Metrics;
use harness::process::{failed, is_running, kill_pid, send_signal};
use harness::scratch::Scratch;
use harness::{MODCDN, ports, repository, until, until_true};

fn modcdn(arguments: &[&str]) -> Output {
    Command::new(MODCDN)
        .args(arguments)
        .output()
        .expect("the binary runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key.as_str())
        .collect()
}

#[test]
fn the_json_line_has_the_documented_shape() {
    let port = ports::cluster();
    let cluster = Cluster::with(&Options {
        port: Some(port),
        ..Options::default()
    });
    let line = cluster.line();
    assert_eq!(
        keys(line),
        BTreeSet::from(["goproxy", "zone", "ca", "nodes"])
    );
    assert_eq!(line["goproxy"], format!("http://127.0.0.11:{port}"));
    assert_eq!(line["zone"], "go.test.");
    assert_eq!(line["ca"], Value::Null);

    let nodes = line["nodes"].as_array().expect("nodes is a list");
    let names: Vec<&str> = nodes
        .iter()
        .filter_map(|node| node["name"].as_str())
        .collect();
    assert_eq!(names, ["eu", "us", "ap", "origin", "dns"]);
    let roles: Vec<&str> = nodes
        .iter()
        .filter_map(|node| node["role"].as_str())
        .collect();
    assert_eq!(roles, ["edge", "edge", "edge", "origin", "dns"]);
    for (node, last) in nodes.iter().zip([11, 12, 13, 10]) {
        assert_eq!(
            keys(node),
            BTreeSet::from(["role", "name", "pid", "urls", "admin"])
        );
        assert_eq!(
            node["urls"],
            serde_json::json!([format!("http://127.0.0.{last}:{port}")])
        );
        assert_eq!(
            node["admin"],
            format!("127.0.0.{last}:{}", ports::admin(port))
        );
    }
    let dns = &nodes[4];
    assert_eq!(
        keys(dns),
        BTreeSet::from(["role", "name", "pid", "dns", "admin"])
    );
    assert_eq!(dns["dns"], format!("127.0.0.10:{}", ports::dns(port)));
    assert_eq!(
        dns["admin"],
        format!("127.0.0.10:{}", ports::dns_admin(port))
    );

    for member in cluster.members() {
        assert!(
            is_running(member.pid),
            "{} runs as {}",
            member.name,
            member.pid
        );
        for path in ["/healthz", "/readyz", "/metrics"] {
            Client::h1(&format!("http://{}", member.admin))
                .get(path)
                .ok();
        }
    }
    for edge in cluster.edges() {
        Client::h1(edge.http()).get("/-/healthz").ok();
        assert_eq!(
            Client::h1(edge.http()).get("/metrics").status,
            400,
            "never in public"
        );
    }
    assert!(
        cluster.output_after_the_line().is_empty(),
        "stdout gets exactly one line"
    );
}

#[test]
fn the_json_line_with_tls_has_https_urls_and_the_ca() {
    let port = ports::cluster();
    let cluster = Cluster::with(&Options {
        port: Some(port),
        tls: true,
        flags: vec!["--regions".to_owned(), "eu".to_owned()],
        ..Options::default()
    });
    let https = format!("https://127.0.0.11:{}", ports::https(port));
    assert_eq!(cluster.goproxy(), https);
    assert_eq!(
        cluster.line()["nodes"][0]["urls"],
        serde_json::json!([format!("http://127.0.0.11:{port}"), https])
    );
    let path = format!("{LARGE}.mod");
    let h2 = Client::tls_h2(&https, &cluster.ca()).get(&path).ok();
    let h1 = Client::tls_h1(&https, &cluster.ca()).get(&path).ok();
    let clear = Client::h1(cluster.node("eu").http()).get(&path).ok();
    assert_eq!((&h2.body, &h1.body), (&clear.body, &clear.body));
    let older = Client::tls_1_2(&https, &cluster.ca()).get(&path).ok();
    assert_eq!(older.body, clear.body);
    // The certificate holds for the name that DNS leads here, too.
    let by_name = Client::tls_h2(&https, &cluster.ca()).calling_it("go.test");
    assert_eq!(by_name.get(&path).ok().body, clear.body);
}

#[test]
fn a_taken_port_is_an_error_that_names_it() {
    let port = ports::cluster();
    let _taken = TcpListener::bind(("127.0.0.12", port)).expect("it was free");
    let scratch = Scratch::new("taken");
    let options = Options {
        port: Some(port),
        ..Options::default()
    };
    let mut command = Command::new(MODCDN);
    let output = command
        .args(options.arguments(scratch.path()))
        .output()
        .expect("it runs");
    assert!(failed(output.status), "{:?}", output.status);
    assert!(
        stderr(&output).contains(&format!("127.0.0.12:{port}")),
        "{}",
        stderr(&output)
    );
    assert!(output.stdout.is_empty(), "stdout is for the JSON line only");
}

#[test]
fn a_killed_node_is_reported_and_started_again_while_the_rest_works() {
    let cluster = Cluster::with(&Options {
        restart: true,
        ..Options::default()
    });
    let killed = cluster.node("us").clone();
    kill_pid(killed.pid);
    let path = format!("{LARGE}.mod");
    Client::h1(cluster.node("eu").http()).get(&path).ok();
    until_true("the report of the death", || {
        cluster
            .log()
            .lines()
            .any(|line| line.contains("us") && line.contains(&killed.pid.to_string()))
    });
    until("the edge to be back", || {
        let client = Client::h1(killed.http());
        let answer = client.send(&http::Method::GET, &path, &[]).ok()?;
        (answer.status == 200).then_some(())
    });
}

#[test]
fn a_node_stays_the_process_that_up_watches() {
    let cluster = Cluster::start();
    let edge = cluster.node("eu");
    send_signal(edge.pid, libc::SIGUSR2);
    until_true("the edge to say no", || {
        cluster.node_log("eu").contains("nobody can take over")
    });
    assert!(is_running(edge.pid));
    Client::h1(edge.http()).get("/-/healthz").ok();
}

#[test]
fn without_restart_a_killed_node_stays_dead_and_the_rest_works() {
    let cluster = Cluster::start();
    cluster.node("us").kill();
    let path = format!("{LARGE}.mod");
    for edge in ["eu", "ap"] {
        Client::h1(cluster.node(edge).http()).get(&path).ok();
    }
    let answer = Client::h1(cluster.node("us").http()).send(&http::Method::GET, &path, &[]);
    assert!(answer.is_err(), "{answer:?}");
}

#[test]
fn when_up_is_killed_its_nodes_die_with_it() {
    let mut cluster = Cluster::start();
    cluster.up().kill();
    cluster.all_nodes_are_gone();
}

#[test]
fn ctrl_c_stops_all_and_ends_well() {
    let mut cluster = Cluster::start();
    cluster.up().signal(libc::SIGINT);
    let status = cluster.up().wait("the end of `up` after Ctrl-C");
    assert!(status.success(), "{status:?}\n{}", cluster.log());
    cluster.all_nodes_are_gone();
    for member in cluster.members() {
        let log = cluster.node_log(&member.name);
        assert!(!log.contains("panicked"), "{}: {log}", member.name);
    }
}

#[test]
fn a_second_up_on_the_same_data_is_refused_and_later_starts_from_what_was_kept() {
    let scratch = Scratch::new("kept");
    let options = || Options {
        data: Some(scratch.folder("data")),
        tls: true,
        flags: vec!["--regions".to_owned(), "eu".to_owned()],
        ..Options::default()
    };
    let mut first = Cluster::with(&options());
    let ca = fs::read(first.ca()).expect("the CA file");
    let mut second = Command::new(MODCDN);
    let second = second
        .args(options().arguments(first.data()))
        .output()
        .expect("it runs");
    assert!(failed(second.status), "{:?}", second.status);
    assert!(stderr(&second).contains("--data"), "{}", stderr(&second));

    let map = |cluster: &Cluster| {
        Metrics::scrape(&cluster.node("dns").admin).expect("modcdn_dns_map_version", &[])
    };
    let last = map(&first);
    first.up().signal(libc::SIGTERM);
    first.up().wait("the end of `up`");
    let again = Cluster::with(&options());
    assert!(
        map(&again) > last,
        "its DNS server starts from what was known: versions of maps only rise"
    );
    assert_eq!(
        fs::read(again.ca()).expect("the CA file"),
        ca,
        "made once and kept"
    );
}

#[test]
fn without_go_and_upstream_the_error_says_what_to_give() {
    let scratch = Scratch::new("nogo");
    let output = Command::new(MODCDN)
        .args(["up", "--data", &scratch.path().display().to_string()])
        .args(["--port", &ports::cluster().to_string()])
        .env("PATH", scratch.folder("empty"))
        .output()
        .expect("the binary runs");
    assert!(failed(output.status), "{:?}", output.status);
    assert!(
        stderr(&output).contains("--upstream"),
        "{}",
        stderr(&output)
    );
}

/// A network started without `--upstream`, on a machine whose go command has `list` in GOPROXY.
fn cluster_where_go_says(list: &str) -> Cluster {
    let scratch = Scratch::new("fakego");
    let fake = scratch.file("go", &format!("#!/bin/sh\necho '{list}'\n"));
    let mut permissions = fs::metadata(&fake).expect("it is there").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    fs::set_permissions(&fake, permissions).expect("it can be made executable");
    let path = format!(
        "{}:{}",
        scratch.path().display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let options = Options {
        default_upstream: true,
        ..Options::default()
    };
    Cluster::with_env(&options, &[("PATH", &path)])
}

#[test]
fn the_upstream_is_by_default_what_go_says() {
    let modules = Modules::fetch();
    let cluster = cluster_where_go_says(&modules.url());
    let zip = format!("{LARGE}.zip");
    let answer = Client::h1(cluster.node("eu").http()).get(&zip).ok();
    assert_eq!(answer.body, modules.read(&zip));
}

#[test]
fn direct_at_the_end_of_gos_own_list_is_left_out_so_that_packages_are_found() {
    let cluster = cluster_where_go_says(&format!("{},direct", Modules::fetch().url()));
    let edge = cluster.node("eu").http();
    // The go command asks for a module of the package's path first: a 404 sends it on upwards.
    let asked = Go::with_proxy(edge).ask(&["get", "golang.org/x/mod/semver@v0.17.0"]);
    asked.succeeds();
}

#[test]
fn the_version_is_printed() {
    let output = modcdn(&["--version"]);
    assert!(output.status.success());
    let expected = format!("modcdn {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

#[test]
fn help_names_the_commands() {
    let output = modcdn(&["--help"]);
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    for command in ["up", "origin", "edge", "dns", "check"] {
        assert!(
            help.lines()
                .any(|line| line.trim_start().starts_with(command)),
            "{help}"
        );
    }
}

#[test]
fn every_example_configuration_passes_the_check() {
    let mut checked = BTreeSet::new();
    for entry in fs::read_dir(repository().join("config"))
        .expect("config/")
        .flatten()
    {
        let path = entry.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let output = modcdn(&["check", &path.display().to_string()]);
            assert!(
                output.status.success(),
                "{}: {}",
                path.display(),
                stderr(&output)
            );
            checked.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    for role in ["origin.yaml", "edge.yaml", "dns.yaml"] {
        assert!(checked.contains(role), "{role} is missing: {checked:?}");
    }
}

#[test]
fn a_wrong_key_is_named_with_its_line_and_column() {
    let scratch = Scratch::new("check");
    for role in ["edge", "origin", "dns"] {
        let good = fs::read_to_string(repository().join(format!("config/{role}.yaml")))
            .expect("an example for the role");
        let line = good.lines().count() + 1;
        let bad = scratch.file(
            &format!("{role}.yaml"),
            &format!("{}\nno_such_key: 1\n", good.trim_end()),
        );
        let output = modcdn(&["check", &bad.display().to_string()]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        let place = format!("{role}.yaml:");
        let said = stderr(&output);
        assert!(
            said.contains(&place) && said.contains("no_such_key"),
            "{said}"
        );
        let position = said.split(&place).nth(1).unwrap_or_default();
        let numbers: Vec<usize> = position
            .splitn(3, ':')
            .take(2)
            .filter_map(|number| number.parse().ok())
            .collect();
        assert!(
            numbers.len() == 2 && numbers[0] <= line,
            "line:column\n{said}"
        );
    }
}

#[test]
fn a_file_that_is_not_there_fails_the_check() {
    let output = modcdn(&["check", "/nowhere/edge.yaml"]);
    assert!(failed(output.status), "{:?}", output.status);
    assert!(
        stderr(&output).contains("/nowhere/edge.yaml"),
        "{}",
        stderr(&output)
    );
}
