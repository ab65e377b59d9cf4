//! What golang.org/x/mod says of module zips: origin/tests/xmod.

use std::process::Command;

use serde_json::Value;

use self::go::go_run;

#[path = "../../../core/tests/reference/mod.rs"]
mod go;

/// Asks x/mod; `Err` is its reason for a no.
pub(crate) fn x_mod(questions: impl IntoIterator<Item = Value>) -> Vec<Result<String, String>> {
    let lines = questions.into_iter().map(|question| question.to_string());
    let answers = go_run("tests/xmod", lines);
    answers.iter().map(|line| answer(line)).collect()
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
