//! Runs the Go programs that say what golang.org/x/mod makes of an input.

use std::fs::File;
use std::io::{Seek, Write};
use std::process::{Command, Stdio};

/// What the Go program in a folder of this package says to lines, a line each. It needs `go` and,
/// through its module proxy, golang.org/x/mod.
pub(crate) fn go_run(folder: &str, lines: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut input: File = tempfile::tempfile().expect("a temporary file");
    let mut count = 0;
    for line in lines {
        writeln!(input, "{line}").expect("a written line");
        count += 1;
    }
    input.rewind().expect("a rewound file");
    let output = Command::new("go")
        .args(["run", "."])
        .current_dir(format!("{}/{folder}", env!("CARGO_MANIFEST_DIR")))
        .env("GOFLAGS", "-mod=mod")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .stdin(input)
        .stderr(Stdio::piped())
        .output()
        .expect("this test needs the go command on PATH (Go 1.23 or later)");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "go run {folder} failed:\n{errors}");
    let text = String::from_utf8(output.stdout).expect("x/mod answers in UTF-8");
    let answers: Vec<String> = text.lines().map(str::to_owned).collect();
    assert_eq!(answers.len(), count);
    answers
}
