//! The reference tests of HTTP/2, h2spec, against an edge. Needs `go` and, through its module proxy,
//! what tests/h2spec/go.mod names.

mod harness;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use harness::modules::{Modules, UPPER_CASE};
use harness::node::Node;
use harness::repository;

/// What h2spec expects otherwise, and why it is right here.
const OTHERWISE: [(&str, &str); 6] = [
    (
        "Sends invalid connection preface",
        "in clear text it is taken for HTTP/1.1, and answered in it",
    ),
    (
        "Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1 on a stream",
        "the request has a body, so it is refused, and its stream is over, before they come",
    ),
    (
        "Sends a second HEADERS frame without the END_STREAM flag",
        "a POST: likewise",
    ),
    (
        "Sends a HEADERS frame that contains a pseudo-header field as trailers",
        "a POST: likewise",
    ),
    (
        "Sends a HEADERS frame with the \"content-length\" header field which does not equal the DATA frame payload length",
        "a POST: likewise",
    ),
    (
        "Sends a HEADERS frame with the \"content-length\" header field which does not equal the sum of the multiple DATA frames payload length",
        "a POST: likewise",
    ),
];

#[test]
fn h2spec_agrees() {
    let origin = Node::origin(&Modules::fetch().url(), "");
    // It opens a connection for each of its tests.
    let edge = Node::edge(&origin, "limits: {h2_frames: {pings: 100000}}");
    let (host, port) = edge.address().split_once(':').expect("ADDRESS:PORT");
    let report = edge.store().join("h2spec.xml");
    let output = Command::new("go")
        .args(["run", "github.com/summerwind/h2spec/cmd/h2spec"])
        .args(["--host", host, "--port", port, "--timeout", "5"])
        .args(["--path", &format!("{UPPER_CASE}.mod")])
        .arg("--junit-report")
        .arg(&report)
        .current_dir(repository().join("tests/h2spec"))
        .env("GOFLAGS", "-mod=mod")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .output()
        .expect("this test needs the go command on PATH (Go 1.23 or later)");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("145 tests"),
        "h2spec ran to its end:\n{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let expected: BTreeSet<String> = OTHERWISE
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    assert_eq!(failed(&report), expected, "{text}");
}

/// The tests in a JUnit report that failed.
fn failed(report: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(report).expect("h2spec's report");
    let cases = text.split("<testcase").skip(1);
    let failed = cases.filter(|case| case.contains("<failure") || case.contains("<error"));
    let name = |case: &str| {
        let (_, name) = case.split_once("package=\"")?;
        let (_, name) = name.split_once("classname=\"")?;
        let (name, _) = name.split_once("\"")?;
        Some(name.replace("&#34;", "\"").replace("&#39;", "'"))
    };
    failed
        .map(|case| name(case).expect("a test's name"))
        .collect()
}
