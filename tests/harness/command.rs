//! Commands of the binary that end by themselves.

use std::process::Command;

use serde_json::Value;

use super::MODCDN;

/// What a command said, and how it ended.
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Runs `modcdn` with these arguments to its end.
pub fn modcdn(arguments: &[&str]) -> Ran {
    let output = Command::new(MODCDN)
        .args(arguments)
        .output()
        .expect("the binary runs");
    Ran {
        code: output.status.code().expect("it ends by itself"),
        stdout: String::from_utf8(output.stdout).expect("utf-8"),
        stderr: String::from_utf8(output.stderr).expect("utf-8"),
    }
}

impl Ran {
    /// It must have ended so.
    pub fn ends(self, code: i32) -> Ran {
        let all = format!("{}\n{}", self.stdout, self.stderr);
        assert_eq!(self.code, code, "{all}");
        self
    }

    /// The lines of JSON that it printed.
    pub fn lines(&self) -> Vec<Value> {
        let lines = self.stdout.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("a line of JSON"))
            .collect()
    }

    /// The last line's summary.
    pub fn summary(&self) -> Value {
        self.lines().pop().expect("a line")["summary"].clone()
    }
}
