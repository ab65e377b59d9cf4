//! `modcdn client`: what a developer, or a CI job, sets so that its modules come through a modcdn.

use std::fmt::Write as _;

use modcdn_core::goenv::{self, Variable};
use modcdn_core::goproxy::Patterns;

use crate::cli::{ClientArgs, Shell};
use crate::failure::Failure;
use crate::terminal::print;

/// Prints the lines.
///
/// # Errors
/// A flag makes no sense.
pub(crate) fn run(args: &ClientArgs) -> Result<(), Failure> {
    check_url(&args.url).map_err(|why| Failure::Usage(format!("--url {}: {why}", args.url)))?;
    let private = patterns(&args.private)?;
    print(text(&args.url, &private, args.shell).trim_end());
    Ok(())
}

fn patterns(texts: &[String]) -> Result<Patterns, Failure> {
    let all = texts.join(",");
    all.parse()
        .map_err(|error| Failure::Usage(format!("--private: {error}")))
}

/// What the go command takes for a proxy, or several of them.
fn check_url(url: &str) -> Result<(), &'static str> {
    let mut parts = url.split([',', '|']);
    let fits = |part: &str| {
        let rest = part.strip_prefix("http://");
        let host = rest.or_else(|| part.strip_prefix("https://"));
        host.is_some_and(|host| !host.is_empty() && !host.starts_with('/'))
    };
    let plain = url
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\'');
    if plain && parts.all(fits) {
        Ok(())
    } else {
        Err("an http(s) URL, or several with | between them")
    }
}

fn text(url: &str, private: &Patterns, shell: Shell) -> String {
    let all = goenv::all(url, private);
    if shell == Shell::Env {
        // For a file that is no script: nothing but the lines.
        return all.iter().fold(String::new(), |text, variable| {
            text + &in_environment(variable, shell) + "\n"
        });
    }
    let mut text = String::new();
    text += "# On a developer's machine, once. `go env -u NAME` takes one back; a variable in the environment wins.\n";
    for variable in &all {
        let _ = writeln!(text, "{}", persistent(variable));
    }
    text += "\n# In a CI job, or a shell.\n";
    for variable in &all {
        let _ = writeln!(text, "{}", in_environment(variable, shell));
    }
    if private.is_empty() {
        return text;
    }
    text += "\n# Instead of GONOSUMDB, where GOPRIVATE must be set for other tools: alone it would keep these modules\n\
             # away from every proxy, this one too; GONOPROXY=none wins over that.\n";
    for variable in &goenv::beside_goprivate(private) {
        let _ = writeln!(text, "{}", persistent(variable));
    }
    text
}

/// A line that the go command remembers: the same in all shells, in which single quotes quote.
fn persistent(variable: &Variable) -> String {
    format!("go env -w '{}={}'", variable.name, variable.value)
}

fn in_environment(Variable { name, value }: &Variable, shell: Shell) -> String {
    match shell {
        Shell::Sh => format!("export {name}='{value}'"),
        Shell::Fish => format!("set -gx {name} '{value}'"),
        Shell::Powershell => format!("$Env:{name} = '{value}'"),
        // As in a Dockerfile's ENV, an env file or a pipeline's variables: nothing is quoted.
        Shell::Env => format!("{name}={value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(private: &str, shell: Shell) -> Vec<String> {
        let text = text("https://go.example.com", &private.parse().unwrap(), shell);
        let lines = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn without_private_modules_one_variable_is_enough() {
        assert_eq!(
            lines("", Shell::Sh),
            [
                "go env -w 'GOPROXY=https://go.example.com'",
                "export GOPROXY='https://go.example.com'",
            ]
        );
    }

    #[test]
    fn private_modules_come_through_the_proxy_and_stay_out_of_the_database() {
        assert_eq!(
            lines("corp.example/*", Shell::Fish),
            [
                "go env -w 'GOPROXY=https://go.example.com'",
                "go env -w 'GONOSUMDB=corp.example/*'",
                "go env -w 'GONOPROXY=none'",
                "set -gx GOPROXY 'https://go.example.com'",
                "set -gx GONOSUMDB 'corp.example/*'",
                "set -gx GONOPROXY 'none'",
                "go env -w 'GOPRIVATE=corp.example/*'",
                "go env -w 'GONOPROXY=none'",
            ]
        );
        assert_eq!(lines("a.b", Shell::Powershell)[4], "$Env:GONOSUMDB = 'a.b'");
    }

    #[test]
    fn a_file_of_variables_has_nothing_else_in_it() {
        let private = "a.b".parse().unwrap();
        let text = text("https://go.example.com", &private, Shell::Env);
        let wanted = "GOPROXY=https://go.example.com\nGONOSUMDB=a.b\nGONOPROXY=none\n";
        assert_eq!(text, wanted);
    }

    #[test]
    fn a_url_is_one_that_the_go_command_takes() {
        for url in [
            "https://a.b",
            "http://127.0.0.1:8080/team-a",
            "https://a|https://b",
        ] {
            assert!(check_url(url).is_ok(), "{url}");
        }
        for url in [
            "",
            "a.b",
            "https://",
            "file:///x",
            "https://a'b",
            "https://a b",
            "direct",
        ] {
            assert!(check_url(url).is_err(), "{url}");
        }
    }
}
