//! What a go command must be told so that its modules come through a modcdn: the one place that words
//! it.
//!
//! A private module asked of the public checksum database tells the public its name, so clients must
//! not ask (`GONOSUMDB`), but shall come to us all the same. `GOPRIVATE` alone means both: no checksum
//! database and no proxy. `GONOPROXY=none` wins over its second half.

use crate::goproxy::Patterns;

/// One variable and its value, as `go env -w` takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Such as `GOPROXY`.
    pub name: &'static str,
    /// Unquoted.
    pub value: String,
}

impl Variable {
    fn new(name: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        Self { name, value }
    }
}

/// What keeps these modules from being asked of the checksum database.
#[must_use]
pub fn no_sumdb(private: impl std::fmt::Display) -> Variable {
    Variable::new("GONOSUMDB", private.to_string())
}

/// What has all modules come through the proxy, private ones too, whatever `GOPRIVATE` says.
#[must_use]
pub fn no_bypass() -> Variable {
    Variable::new("GONOPROXY", "none")
}

/// What a user whose go command asked the checksum database about a private module should do.
#[must_use]
pub fn hint(pattern: impl std::fmt::Display) -> String {
    let Variable { name, value } = no_sumdb(pattern);
    format!("set {name}: go env -w {name}={value}")
}

/// All that a go command needs, for a proxy at `url`.
#[must_use]
pub fn all(url: &str, private: &Patterns) -> Vec<Variable> {
    let mut all = vec![Variable::new("GOPROXY", url)];
    if !private.is_empty() {
        all.extend([no_sumdb(private), no_bypass()]);
    }
    all
}

/// The same effect for private modules where `GOPRIVATE` must stay set for other tools.
#[must_use]
pub fn beside_goprivate(private: &Patterns) -> Vec<Variable> {
    vec![Variable::new("GOPRIVATE", private.to_string()), no_bypass()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(variables: Vec<Variable>) -> Vec<String> {
        let line = |variable: Variable| format!("{}={}", variable.name, variable.value);
        variables.into_iter().map(line).collect()
    }

    #[test]
    fn private_modules_need_two_more_variables() {
        let none = Patterns::default();
        let url = "https://go.example.com";
        assert_eq!(lines(all(url, &none)), ["GOPROXY=https://go.example.com"]);
        let private = "corp.example/*,github.com/corp".parse().unwrap();
        assert_eq!(
            lines(all(url, &private))[1..],
            ["GONOSUMDB=corp.example/*,github.com/corp", "GONOPROXY=none"]
        );
        assert_eq!(lines(beside_goprivate(&private))[1], "GONOPROXY=none");
        assert_eq!(
            hint("corp.example"),
            "set GONOSUMDB: go env -w GONOSUMDB=corp.example"
        );
    }
}
