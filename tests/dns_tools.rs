//! What operators ask before they move clients: `modcdn explain` and `modcdn dns replay`, beside a DNS
//! server that runs.

mod harness;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use harness::command::{Ran, modcdn};
use harness::dig::Dig;
use harness::node::Node;
use harness::scratch::Scratch;
use harness::{until, until_true};
use serde_json::Value;

const EU: &str = "127.0.0.11";
const US: &str = "127.0.0.12";
const AP: &str = "127.0.0.13";
const TOKEN: &str = "a-token-of-the-reporters";

/// Nearest to us by what was measured, and second to eu.
const MEASURED: &str = "192.0.2.0/24";
/// Pinned to us.
const PINNED: &str = "198.51.100.0/24";
/// Nothing is known of it, so that the operator's order leads it: to eu.
const UNKNOWN: &str = "203.0.113.0/24";

/// A DNS server of three PoPs that are what they report, with a query log and a state folder.
struct World {
    scratch: Scratch,
    dns: Node,
}

impl World {
    fn start(overrides: &str) -> World {
        let scratch = Scratch::new("dns-tools");
        let token = scratch.file("token", TOKEN);
        let pops = [
            ("eu", EU, 50.1, 8.7),
            ("us", US, 39.0, -77.5),
            ("ap", AP, 35.6, 139.7),
        ];
        let pops = pops.map(|(name, address, north, east)| {
            format!(
                "{{name: {name}, addresses: [{address}], latitude: {north}, longitude: {east}}}"
            )
        });
        let config = format!(
            "zone: go.test.\npops: [{}]\norder: [eu, us, ap]\npins: {{{PINNED}: us}}\n\
             steering: {{window: 1s}}\nstate: {{dir: DATA/state, interval: 100ms}}\n\
             reports: {{token_file: '{}'}}\n",
            pops.join(", "),
            token.display()
        );
        let dns = Node::dns(&config, overrides);
        World { scratch, dns }
    }

    fn dig(&self) -> Dig {
        Dig::at(self.dns.address())
    }

    /// Where clients of a subnet are led.
    fn led(&self, subnet: &str) -> Vec<String> {
        self.dig().seen_from("go.test", subnet)
    }

    fn post(&self, path: &str, body: &str) {
        let (status, said) = self.dns.post(path, TOKEN, body);
        assert_eq!(status, 200, "{said}");
    }

    /// Reports round trips of a prefix, and waits until they lead it to us and are kept.
    fn measure(&self) {
        self.post("/reports", REPORT);
        until_true("the measured prefix to be led to us", || {
            self.led(MEASURED) == [US]
        });
        self.until_kept("samples", MEASURED);
    }

    fn until_kept(&self, name: &str, text: &str) {
        let file = self.dns.data().join("state").join(name);
        until_true(&format!("{text} in {}", file.display()), || {
            fs::read_to_string(&file).is_ok_and(|kept| kept.contains(text))
        });
    }

    /// `modcdn explain CLIENT`, of the node or of its configuration, as JSON.
    fn explained(&self, client: &str, from: &[&str]) -> Value {
        let ran = modcdn(&[&["explain", client, "--json"], from].concat()).ends(0);
        ran.lines().remove(0)
    }

    fn by_node(&self, client: &str) -> Value {
        self.explained(client, &["--url", &format!("http://{}", self.dns.admin())])
    }

    fn by_config(&self, client: &str, more: &[&str]) -> Value {
        let config = self.dns.config();
        self.explained(client, &[&["--config", path(&config)], more].concat())
    }

    /// The node's configuration with another laid over it.
    fn other(&self, pins: &str) -> PathBuf {
        let text = fs::read_to_string(self.dns.config()).expect("the configuration");
        let pinned = format!("  {PINNED}: us\n");
        assert!(text.contains(&pinned), "{text}");
        self.scratch.file("new.yaml", &text.replace(&pinned, pins))
    }

    fn replay(&self, log: &Path, new: &Path, more: &[&str]) -> Ran {
        let config = self.dns.config();
        let fixed = ["dns", "replay", path(log), "--config", path(&config)];
        modcdn(&[&fixed[..], &["--map", path(new)], more].concat())
    }
}

const REPORT: &str = r#"{"pop":"us","samples":[
    {"prefix":"192.0.2.0/24","ms":20,"n":900},
    {"prefix":"192.0.2.0/24","pop":"eu","ms":70,"n":900},
    {"prefix":"192.0.2.0/24","pop":"ap","ms":200,"n":900}]}"#;

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn first_of(subnet: &str) -> &str {
    subnet.split('/').next().expect("an address")
}

/// What of an explanation doesn't depend on when it is asked for.
fn lasting(explained: &Value) -> Vec<Value> {
    let keys = [
        "name",
        "addresses",
        "subnet",
        "resolver",
        "via",
        "unit",
        "source",
        "why",
        "answer",
        "pops",
        "runner_up",
        "home",
        "scope",
    ];
    let mut lasting: Vec<Value> = keys.map(|key| explained[key].clone()).into();
    for candidate in explained["candidates"].as_array().expect("a list") {
        let score = &candidate["score"];
        let of = ["prior", "median", "bias", "penalty"].map(|key| score[key].clone());
        lasting.extend(["pop", "state"].map(|key| candidate[key].clone()));
        lasting.extend(of);
    }
    lasting
}

#[test]
fn a_node_its_configuration_and_the_why_name_explain_alike() {
    let world = World::start("");
    world.measure();
    for (subnet, pop, source) in [
        (MEASURED, "us", "measured"),
        (PINNED, "us", "pin"),
        (UNKNOWN, "eu", "order"),
    ] {
        let client = first_of(subnet);
        let by_node = world.by_node(client);
        assert_eq!(
            (&by_node["answer"], &by_node["source"]),
            (&pop.into(), &source.into())
        );
        assert_eq!(lasting(&by_node), lasting(&world.by_config(client, &[])));
        let why = world
            .dig()
            .ask(&["why.go.test", "TXT", &format!("+subnet={subnet}")]);
        let mut said = vec![
            format!("pop={pop}"),
            format!("why={}", by_node["why"].as_str().expect("a text")),
            match by_node["via"].as_str() {
                Some("subnet") => format!("for=subnet {subnet}"),
                _ => "for=resolver 127.0.0.1".to_owned(),
            },
        ];
        for candidate in by_node["candidates"].as_array().expect("a list") {
            if let Some(median) = candidate["score"]["median"].as_f64() {
                said.push(format!("median={median}ms"));
            }
        }
        for text in said {
            assert!(why.text.contains(&text), "no {text} in\n{}", why.text);
        }
    }
    // By its resolver too, which sends no subnet.
    let resolver = ["--resolver", first_of(MEASURED), "--no-subnet"];
    let url = format!("http://{}", world.dns.admin());
    let by_node = world.explained("203.0.113.9", &[&resolver[..], &["--url", &url]].concat());
    assert_eq!(by_node["via"], "resolver");
    assert_eq!(
        lasting(&by_node),
        lasting(&world.by_config("203.0.113.9", &resolver))
    );
}

#[test]
fn what_the_node_kept_is_used_and_named_unless_it_is_left_out() {
    let world = World::start("");
    world.measure();
    let client = first_of(MEASURED);
    let known = world.by_config(client, &[])["known"].clone();
    let samples = world.dns.data().join("state/samples");
    assert_eq!(known["samples"]["file"]["path"], path(&samples));
    assert_eq!(
        (&known["measured"], &known["not_up"]),
        (&3.into(), &serde_json::json!({}))
    );
    let without = world.by_config(client, &["--without-state"]);
    assert_eq!(
        (&without["answer"], &without["source"]),
        (&"eu".into(), &"order".into())
    );
    assert_eq!(without["known"]["samples"]["none"], "left_out");

    // A PoP that an operator drains is left out by both, as soon as it is on disk.
    world.post("/drain", r#"{"pop":"us","drain":true}"#);
    world.until_kept("pops", r#""drained":true"#);
    let by_node = until("the node to compile that", || {
        let by_node = world.by_node(client);
        (by_node["home"] == "eu").then_some(by_node)
    });
    let by_config = world.by_config(client, &[]);
    assert_eq!(lasting(&by_node), lasting(&by_config));
    assert_eq!(by_config["known"]["not_up"]["us"], "draining");

    // Round trips from a file, of another day: as good as they were then.
    let report = REPORT
        .replace('\n', "")
        .replace("\"pop\":\"us\",", "\"pop\":\"us\",\"at\":1700000000,");
    let file = world
        .scratch
        .file("rtt.jsonl", &report.replace("\"ms\":200", "\"ms\":2"));
    let named = ["--samples", path(&file)];
    assert_eq!(world.by_config(client, &named)["answer"], "ap");
    let config = world.dns.config();
    let text = modcdn(&[
        "explain",
        client,
        "--config",
        path(&config),
        named[0],
        named[1],
    ])
    .ends(0);
    for line in [
        "states     us draining (from ",
        "samples    3, the newest ",
        &format!("(from {}, written ", file.display()),
    ] {
        assert!(
            text.stdout.contains(line),
            "no {line:?} in\n{}",
            text.stdout
        );
    }
}

#[test]
fn what_can_not_be_explained_is_said() {
    let world = World::start("");
    let config = world.dns.config();
    let explain = |more: &[&str]| modcdn(&[&["explain", "192.0.2.9"], more].concat());
    let good = ["--config", path(&config)];
    let missing = [&good[..], &["--samples", "/nonexistent"]].concat();
    let said = explain(&missing).ends(1).stderr;
    assert!(
        said.contains("--samples: /nonexistent: No such file"),
        "{said}"
    );
    let wrong = world
        .scratch
        .file("wrong.jsonl", "{\"pop\":\"eu\"}\n{\"pop\":1}\n");
    let said = explain(&[&good[..], &["--samples", path(&wrong)]].concat())
        .ends(1)
        .stderr;
    assert!(said.contains("wrong.jsonl:2: invalid type"), "{said}");
    let said = explain(&[&good[..], &["--name", "no.test"]].concat())
        .ends(2)
        .stderr;
    assert!(
        said.contains("no.test is not steered; steered names are: go.test."),
        "{said}"
    );
    explain(&["--without-state"]).ends(2);
    explain(&["--url", "http://127.0.0.1:1"]).ends(1);
    // State that can't be used is left out, and that is said.
    let samples = world.dns.data().join("state/samples");
    fs::write(&samples, "garbage").expect("damage");
    let said = explain(&good).ends(0).stdout;
    assert!(said.contains("state/samples: not a file of ours"), "{said}");
}

/// Queries by who asked: what a log holds of steered names, a sampled line for several.
fn logged(log: &Path) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(log).expect("a query log");
    let mut by_asker = BTreeMap::new();
    // The last line may still be on its way.
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    for line in lines.collect::<Vec<Value>>() {
        if line["query"] == "go.test." {
            let asker = line["subnet"].as_str().unwrap_or("resolver 127.0.0.1");
            *by_asker.entry(asker.to_owned()).or_default() += line["sample"].as_u64().unwrap_or(1);
        }
    }
    by_asker
}

/// Asks for the steered name as so many clients of each subnet, and waits until all that is in the
/// log. Returns it and what it holds.
fn asked(world: &World, queries: &[(&str, u64)]) -> (PathBuf, BTreeMap<String, u64>) {
    for (subnet, queries) in queries {
        for _ in 0..*queries {
            world.led(subnet);
        }
    }
    let log = world.dns.access_log();
    let all: u64 = queries.iter().map(|(_, queries)| queries).sum();
    let by_asker = until("the queries to be logged", || {
        let by_asker = logged(&log);
        let of_them = queries.iter().map(|(subnet, _)| by_asker.get(*subnet));
        (of_them.flatten().sum::<u64>() >= all).then_some(by_asker)
    });
    (log, by_asker)
}

#[test]
fn a_replay_names_who_moves_and_a_reload_moves_them() {
    let mut world = World::start("");
    world.measure();
    let queries = [
        (MEASURED, 6),
        (PINNED, 3),
        (UNKNOWN, 2),
        ("2001:db8:1::/56", 1),
    ];
    let (log, by_asker) = asked(&world, &queries);
    world.dig().ask(&["all.go.test", "A"]);
    let all: u64 = by_asker.values().sum();

    // The measured clients are pinned to eu, the pinned ones to ap, and one subnet to where it is.
    let new = world.other(&format!(
        "  {MEASURED}: eu\n  {PINNED}: ap\n  {UNKNOWN}: eu\n"
    ));
    let report = world
        .replay(&log, &new, &["--json"])
        .ends(0)
        .lines()
        .remove(0);
    assert_eq!(report["queries"], all, "{report}");
    let moved: BTreeMap<String, (u64, String, String)> = report["top"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| {
            let text = |key: &str| row[key].as_str().expect("a text").to_owned();
            let queries = row["queries"].as_u64().expect("a number");
            (text("what"), (queries, text("from"), text("to")))
        })
        .collect();
    let way = |subnet: &str, from: &str, to: &str| {
        (
            subnet.to_owned(),
            (by_asker[subnet], from.to_owned(), to.to_owned()),
        )
    };
    let expected = [way(MEASURED, "us", "eu"), way(PINNED, "us", "ap")];
    assert_eq!(moved, expected.into());
    // What was measured says what it costs, though a pin decides: 70 ms to eu, 20 ms to us.
    let row = report["top"].as_array().expect("a list");
    let of = |subnet: &str| row.iter().find(|row| row["what"] == subnet).expect("a row");
    let change = of(MEASURED)["change_ms"].as_f64().expect("milliseconds");
    assert!((49.0..51.0).contains(&change), "{change}");
    assert_eq!(of(MEASURED)["measured"], by_asker[MEASURED]);
    assert_eq!(
        of(PINNED)["change_ms"],
        Value::Null,
        "two pins, and nothing measured"
    );
    assert_eq!(report["known"]["new"]["measured"], 3);

    // Without what was measured, those clients don't move at all: they were never led to us.
    let bare = world
        .replay(&log, &new, &["--json", "--without-state"])
        .ends(0);
    let bare = bare.lines().remove(0);
    assert_eq!(bare["moved"]["queries"], by_asker[PINNED], "{bare}");

    // The node does what was foretold.
    let text = fs::read_to_string(&new).expect("the new configuration");
    world.dns.write_config(&text);
    world.dns.signal(libc::SIGHUP);
    until_true("the new map", || world.led(PINNED) == [AP]);
    assert_eq!(world.led(MEASURED), [EU]);
    assert_eq!(world.led(UNKNOWN), [EU]);
}

#[test]
fn a_sampled_log_counts_for_what_it_stands_for() {
    let world = World::start("access_log_sample: 4");
    let queries = [(PINNED, 40), (UNKNOWN, 40)];
    for (subnet, queries) in queries {
        for _ in 0..queries {
            world.led(subnet);
        }
    }
    // Lines come behind the answers: until both subnets have some, ask on.
    let written = until("lines of both subnets", || {
        world.led(PINNED);
        world.led(UNKNOWN);
        let mut written = fs::read_to_string(world.dns.access_log()).ok()?;
        written.truncate(written.rfind('\n')? + 1);
        let both = [PINNED, UNKNOWN]
            .iter()
            .all(|subnet| written.contains(subnet));
        both.then_some(written)
    });
    let log = world.scratch.file("log", &written);
    let by_asker = logged(&log);
    let new = world.other(&format!("  {PINNED}: ap\n"));
    assert!(
        by_asker.values().all(|queries| queries % 4 == 0),
        "{by_asker:?}"
    );
    let report = world
        .replay(&log, &new, &["--json"])
        .ends(0)
        .lines()
        .remove(0);
    assert_eq!(report["queries"], by_asker.values().sum::<u64>());
    assert_eq!(report["moved"]["queries"], by_asker[PINNED]);
    assert_eq!(report["lines"], report["queries"].as_u64().unwrap() / 4);
}

#[test]
fn a_replay_ends_as_its_help_says() {
    let world = World::start("");
    let (log, by_asker) = asked(&world, &[(PINNED, 1), (UNKNOWN, 3)]);
    assert_eq!(by_asker.values().sum::<u64>(), 4);
    let new = world.other(&format!("  {PINNED}: eu\n"));
    let ran = world.replay(&log, &new, &["--most", "25"]).ends(0);
    for text in [
        "states       every pop up (from ",
        "samples      none (there is no ",
        "asked again  4 queries of 2 askers, from 4 lines",
        "moved        1 queries (25.0 %) of 1 askers",
        "us → eu",
    ] {
        assert!(ran.stdout.contains(text), "no {text:?} in\n{}", ran.stdout);
    }
    world.replay(&log, &new, &["--most", "24.9"]).ends(3);
    world.replay(&log, &new, &["--most", "101"]).ends(2);
    let missing = Path::new("/nonexistent");
    let said = world.replay(missing, &new, &[]).ends(1).stderr;
    assert!(
        said.contains("reading /nonexistent: No such file"),
        "{said}"
    );
    let said = world.replay(&log, missing, &[]).ends(2).stderr;
    assert!(said.contains("/nonexistent"), "{said}");
    let wrong = world
        .scratch
        .file("wrong.yaml", "zone: go.test.\npinz: {}\n");
    let said = world.replay(&log, &wrong, &[]).ends(2).stderr;
    assert!(said.contains("wrong.yaml:2:1: "), "{said}");
    // A log in which nothing can be compared is no proof that nobody moves.
    let empty = world.scratch.file("empty", "");
    let said = world.replay(&empty, &new, &["--most", "5"]).ends(1).stderr;
    assert!(said.contains("nothing was compared"), "{said}");
}
