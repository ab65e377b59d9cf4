//! What golang.org/x/mod says of module zips: origin/tests/xmod.

use std::fs::File;
use std::io::{Seek, Write};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Asks x/mod; `Err` is its reason for a no. Needs `go` and, through its module proxy,
/// golang.org/x/mod.
pub(crate) fn x_mod(questions: impl IntoIterator<Item = Value>) -> Vec<Result<String, String>> {
    let mut input: File = tempfile::tempfile().expect("a temporary file");
    let mut count = 0;
    for question in questions {
        writeln!(input, "{question}").expect("a written line");
        count += 1;
    }
    input.rewind().expect("a rewound file");
    let output = Command::new("go")
        .args(["run", "."])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/xmod"))
        .env("GOFLAGS", "-mod=mod")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .stdin(input)
        .stderr(Stdio::piped())
        .output()
        .expect("this test needs the go command on PATH (Go 1.22 or later)");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "go run origin/tests/xmod failed:\n{errors}"
    );
    let text = String::from_utf8(output.stdout).expect("x/mod answers in UTF-8");
    let answers: Vec<_> = text.lines().map(answer).collect();
    assert_eq!(answers.len(), count);
    answers
}

fn answer(line: &str) -> Result<String, String> {
    match line.split_once(' ') {
        Some(("ok", result)) => Ok(result.to_owned()),
        Some(("no", reason)) => Err(reason.to_owned()),
        _ => panic!("x/mod said {line:?}"),
    }
}

/// A module that the go command downloaded.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Downloaded {
    pub(crate) path: String,
    pub(crate) version: String,
    pub(crate) zip: String,
    /// The h1 of its zip.
    pub(crate) sum: String,
}

/// Has the go command download modules, or find them in its cache.
pub(crate) fn download(modules: &[&str]) -> Vec<Downloaded> {
    let output = Command::new("go")
        .args(["mod", "download", "-json"])
        .args(modules)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/xmod"))
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .output()
        .expect("this test needs the go command on PATH (Go 1.22 or later)");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "go mod download failed:\n{said}");
    serde_json::Deserializer::from_slice(&output.stdout)
        .into_iter()
        .map(|module| module.expect("go mod download answers in JSON"))
        .collect()
}
