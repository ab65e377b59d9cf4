//! `modcdn policy test`: what an origin's policy makes of a version, and why.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use modcdn_core::config;
use modcdn_core::goproxy::{ModulePath, Prefix, Version};
use modcdn_core::units::Period;
use modcdn_origin::policy::explain::{Explanation, Question, explain};

use crate::cli::PolicyTestArgs;
use crate::failure::Failure;
use crate::terminal::print;

/// Explains, and says by the exit code whether the version is allowed.
///
/// # Errors
/// A flag or the configuration is wrong; or the version is blocked.
pub(crate) fn test(args: &PolicyTestArgs) -> Result<(), Failure> {
    let (module, version) = version(&args.version).map_err(Failure::Usage)?;
    let mount: Prefix = args
        .mount
        .parse()
        .map_err(|error| Failure::Usage(format!("--mount: {error}")))?;
    let config: modcdn_origin::Config = config::load(&args.config)?;
    let explanation = explain(&Question {
        config: &config,
        mount: &mount,
        module: &module,
        version: &version,
        age: args.age.map(Period::get),
        now: SystemTime::now(),
    });
    let explanation = explanation.map_err(|error| Failure::Usage(format!("--mount: {error}")))?;
    if args.json {
        let line = serde_json::to_string(&explanation);
        print(&line.map_err(|error| Failure::doing("writing JSON", error))?);
    } else {
        print(text(&explanation).trim_end());
    }
    if explanation.allowed {
        Ok(())
    } else {
        Err(Failure::Blocked)
    }
}

fn version(text: &str) -> Result<(ModulePath, Version), String> {
    let wrong = |why: &dyn std::fmt::Display| format!("{text}: {why}");
    let (module, version) = text
        .split_once('@')
        .ok_or_else(|| wrong(&"write MODULE@VERSION"))?;
    let module: ModulePath = module.parse().map_err(|error| wrong(&error))?;
    let version: Version = version.parse().map_err(|error| wrong(&error))?;
    if !module.allows(&version) {
        return Err(wrong(&"the module's path asks for another major version"));
    }
    Ok((module, version))
}

fn text(explanation: &Explanation) -> String {
    let Explanation {
        module,
        version,
        mount,
        facts,
        ..
    } = explanation;
    let verdict = explanation.reason.unwrap_or("allowed");
    let mut text = format!("{module}@{version} in {mount}: {verdict}\n");
    let mut say = |name: &str, what: &str| {
        let what = what.replace('\n', &format!("\n{:11}", ""));
        let _ = writeln!(text, "{name:10} {what}");
    };
    if let Some(why) = &explanation.why {
        say("why", why);
    }
    match &explanation.rule {
        Some(said) => {
            let until = said.until.as_ref().map(|until| format!(" (until {until})"));
            let until = until.unwrap_or_default();
            say("rule", &format!("{}: {}{until}", said.number, said.rule));
            if !said.reason.is_empty() {
                say("reason", &said.reason);
            }
        }
        None => say("rule", "none means it: the default counts"),
    }
    for number in &explanation.over {
        say("over", &format!("rule {number} means it too, and is over"));
    }
    say("age", &age(facts.age, facts.age_from));
    if let Some(fault) = &facts.store_fault {
        let missing = "can't be read, so ages and notices that it holds are missing here";
        say("store", &format!("{missing}: {fault}"));
    }
    if facts.private {
        say("private", "yes");
    }
    for (name, said) in [
        ("retracted", &facts.retracted),
        ("deprecated", &facts.deprecated),
    ] {
        if let Some(said) = said {
            say(name, said.lines().next().unwrap_or("without a word"));
        }
    }
    let go_mod = if explanation.go_mod {
        "given out"
    } else {
        "kept back"
    };
    say("go.mod", go_mod);
    if !explanation.allowed {
        match &explanation.nearest {
            Some(nearest) => say("instead", &format!("go get {module}@{nearest}")),
            None => say(
                "instead",
                &format!(
                    "no other version is known to be allowed, of {} that are known",
                    facts.listed
                ),
            ),
        }
    }
    text
}

fn age(age: Option<u64>, from: &str) -> String {
    match age {
        Some(seconds) => {
            let minutes = Period::from(Duration::from_secs(seconds / 60 * 60));
            format!("{minutes} ({from})")
        }
        None => "not known".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_one_that_the_module_can_have() {
        assert!(version("example.com/m@v1.2.3").is_ok());
        for (wrong, said) in [
            ("example.com/m", "MODULE@VERSION"),
            ("m@v1.0.0", "domain"),
            ("example.com/m@main", "canonical"),
            ("example.com/m@v2.0.0", "major version"),
        ] {
            let error = version(wrong).unwrap_err();
            assert!(error.contains(said), "{wrong}: {error}");
        }
    }
}
