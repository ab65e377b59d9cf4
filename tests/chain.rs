//! The whole chain, by name: resolv.conf → our DNS on port 53 → edge → origin, with a real `go`.

mod harness;

use harness::cluster::{Cluster, Options};
use harness::dig::Dig;
use harness::go::Go;
use harness::modules::Modules;
use harness::namespaces::{inside, resolver, run_inside};
use harness::observe::access_log;
use harness::{until, until_true};

const NAME: &str = "a_build_by_name_survives_the_death_of_the_edge_that_served_it";
const RESOLV_CONF: &str = "nameserver 127.0.0.10\noptions timeout:2 attempts:2\n";
/// A name: what DNS answers, with the port that all edges share, is all a client needs.
const GOPROXY: &str = "http://go.test:8080";

#[test]
fn a_build_by_name_survives_the_death_of_the_edge_that_served_it() {
    if !inside() {
        // Fetched out here: inside there is no network but loopback.
        Modules::fetch();
        return run_inside(NAME, RESOLV_CONF);
    }
    assert_eq!(resolver(), RESOLV_CONF);
    let cluster = Cluster::with(&Options {
        port: Some(8080),
        flags: vec!["--dns-port".to_owned(), "53".to_owned()],
        ..Options::default()
    });

    Go::with_proxy(GOPROXY).downloads_and_builds();
    let first = until("an edge that served the build", || serving(&cluster).pop());
    cluster.node(&first).kill();

    let dig = Dig::at("127.0.0.10:53");
    let address = cluster.node(&first).address().replace(":8080", "");
    until_true("a DNS answer without the dead edge", || {
        let answers = dig.try_ask(&["go.test", "A"]).map(|answer| answer.answers);
        answers.is_some_and(|answers| !answers.is_empty() && !answers.contains(&address))
    });

    Go::with_proxy(GOPROXY).downloads_and_builds();
    until_true("another edge that served the second build", || {
        serving(&cluster).iter().any(|edge| *edge != first)
    });
}

/// The edges whose access log shows that they gave a zip to a client.
fn serving(cluster: &Cluster) -> Vec<String> {
    let served = |name: &String| {
        let log = access_log(&cluster.access_log(name));
        log.iter().any(|access| {
            access.field("path").ends_with(".zip") && access.number("status") == Some(200)
        })
    };
    cluster
        .edges()
        .iter()
        .map(|edge| edge.name.clone())
        .filter(served)
        .collect()
}
