//! What the user is told of a blocked version: the rule, the reason, and what to take instead. Pure.

use std::time::Duration;

use modcdn_core::goproxy::{ModulePath, Version};
use modcdn_core::refusal::Refusal;

use super::{Age, Block};
use crate::config::policy::{Policy, Rule};

/// A rule with many patterns is cut, so that its reason is read.
const MAX_RULE: usize = 90;

/// An author's words, or a list of patterns, go no further.
const MAX_WORDS: usize = 160;

/// What can be taken in place of a blocked version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instead {
    /// This one, the nearest that is allowed.
    Version(Version),
    /// Nothing: none that is known is allowed.
    Nothing,
    /// Nobody knows: the list of versions can't be had.
    Unknown,
}

/// The refusal of `asked`, which is a version of `module`.
#[must_use]
pub fn refusal(
    policy: &Policy,
    block: &Block,
    asked: impl Into<String>,
    module: &ModulePath,
    instead: &Instead,
) -> Refusal {
    let hint = match instead {
        // The line that is to be copied comes first: what is cut off is the end.
        Instead::Version(version) => {
            format!("go get {module}@{version} takes the nearest allowed version")
        }
        Instead::Nothing => "no version of it is allowed; ask those who run this proxy".to_owned(),
        Instead::Unknown => {
            format!("go list -m -versions {module} shows which versions are allowed")
        }
    };
    Refusal::new(block.reason(), asked, why(policy, block)).hint(hint)
}

/// Why, in words that follow what was asked.
#[must_use]
pub fn why(policy: &Policy, block: &Block) -> String {
    match block {
        Block::Denied(number) => match policy.rules.get(*number) {
            Some(rule) => denied(*number, rule),
            None => "blocked by this proxy's policy".to_owned(),
        },
        Block::NotAllowed => {
            "no rule of this proxy's policy allows it, and what no rule names is denied".to_owned()
        }
        Block::CoolDown { age, min_age } => too_new(*age, *min_age),
        Block::Retracted(why) => said("its author took this version back", why),
        Block::Deprecated(why) => said("its author gave this module up", why),
    }
}

fn denied(number: usize, rule: &Rule) -> String {
    let until = rule.until.as_ref();
    let until = until.map(|until| format!(" (until {until})"));
    format!(
        "blocked by rule {} of this proxy's policy ({})\n{}{}",
        number + 1,
        cut(&rule.to_string(), MAX_RULE),
        rule.reason,
        until.unwrap_or_default()
    )
}

fn too_new(age: Age, min_age: Duration) -> String {
    let known = match age {
        Age::Unknown => "when it was published isn't known here".to_owned(),
        Age::Recorded(age) => {
            format!("it has been in the checksum database for {}", rounded(age))
        }
        Age::Seen(age) => format!("it was first seen here {} ago", rounded(age)),
    };
    format!(
        "too new: {known}, and this proxy's policy asks for {}",
        rounded(min_age)
    )
}

fn said(what: &str, why: &str) -> String {
    let first = why.lines().map(str::trim).find(|line| !line.is_empty());
    match first {
        Some(line) => format!(
            "{what}, and this proxy's policy blocks it\n{}",
            cut(line, MAX_WORDS)
        ),
        None => format!("{what}, and this proxy's policy blocks it"),
    }
}

/// To the minute, as nobody needs it more exactly; in days, since months and years are of many lengths.
fn rounded(age: Duration) -> String {
    let minutes = age.as_secs() / 60;
    let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    let parts = [
        (days, if days == 1 { "day" } else { "days" }),
        (hours, "h"),
        (minutes, "m"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    let text: Vec<String> = parts
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    if text.is_empty() {
        return "less than a minute".to_owned();
    }
    text.join(" ")
}

/// At most so many characters.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 3).collect::<String>() + "..."
}

#[cfg(test)]
mod tests {
    use modcdn_core::refusal::{MAX_BYTES, MAX_LINES};
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn long_times_are_told_in_days() {
        let minute = Duration::from_secs(60);
        for (time, told) in [
            (Duration::from_secs(59), "less than a minute"),
            (minute * 61, "1h 1m"),
            (DAY + minute, "1day 1m"),
            (DAY * 700, "700days"),
        ] {
            assert_eq!(rounded(time), told);
        }
    }

    fn policy(text: &str) -> Policy {
        serde_yaml::from_str(text).unwrap()
    }

    fn text(policy: &Policy, block: &Block, instead: &Instead) -> String {
        let module = "example.com/m".parse().unwrap();
        let refusal = refusal(policy, block, "example.com/m@v1.2.3.zip", &module, instead);
        String::from_utf8(refusal.text().to_vec()).unwrap()
    }

    #[test]
    fn a_user_reads_the_rule_its_reason_and_what_to_take() {
        let policy = policy(
            "rules: [{deny: example.com/m, versions: '<v1.2.4', reason: 'CVE-2026-1: reads any file', until: 2026-12-31}]",
        );
        let instead = Instead::Version("v1.2.4".parse().unwrap());
        assert_eq!(
            text(&policy, &Block::Denied(0), &instead),
            "modcdn: example.com/m@v1.2.3.zip: blocked by rule 1 of this proxy's policy (deny example.com/m <v1.2.4)\n\
             CVE-2026-1: reads any file (until 2026-12-31)\n\
             hint: go get example.com/m@v1.2.4 takes the nearest allowed version\n\
             reason: policy-denied\n"
        );
    }

    #[test]
    fn other_blocks_say_what_is_known() {
        let policy = Policy::default();
        let says = |block: &Block, words: &[&str]| {
            let text = text(&policy, block, &Instead::Nothing);
            for word in words {
                assert!(text.contains(word), "{word} in {text}");
            }
        };
        let block = |age| Block::CoolDown {
            age,
            min_age: 7 * DAY,
        };
        says(&block(Age::Unknown), &["isn't known", "asks for 7days"]);
        let two = DAY * 2 + Duration::from_secs(3671);
        says(
            &block(Age::Recorded(two)),
            &[
                "in the checksum database for 2days 1h 1m,",
                "policy-cool-down",
            ],
        );
        says(
            &block(Age::Seen(Duration::ZERO)),
            &["first seen here less than a minute ago"],
        );
        says(
            &Block::Retracted("\nloses data\nmore".to_owned()),
            &[
                "took this version back",
                "\nloses data\n",
                "policy-retracted",
            ],
        );
        says(
            &Block::NotAllowed,
            &["no rule", "policy-not-allowed", "ask those"],
        );
    }

    proptest! {
        #[test]
        fn the_go_command_shows_all_of_the_line_to_copy(
            elements in prop::collection::vec("[a-zA-Z0-9]{1,30}", 0..5),
            patterns in prop::collection::vec("[a-z]{1,9}\\.[a-z]{1,9}", 1..40),
            reason in "[ -~]{1,200}",
            pre in "[a-z0-9]{1,40}",
        ) {
            let module = format!("example.com/{}", elements.join("/"));
            let module = module.trim_end_matches('/').parse::<ModulePath>();
            prop_assume!(module.is_ok() && !reason.trim().is_empty());
            let module = module.unwrap();
            let rule = serde_json::json!({"deny": patterns, "versions": "<v99", "reason": reason});
            let policy: Policy = serde_json::from_value(serde_json::json!({"rules": [rule]})).unwrap();
            let version: Version = format!("v1.2.3-x{pre}").parse().unwrap();
            let asked = format!("{module}@v1.2.2.zip");
            let instead = Instead::Version(version.clone());
            let refusal = refusal(&policy, &Block::Denied(0), asked, &module, &instead);
            let text = String::from_utf8(refusal.text().to_vec()).unwrap();
            prop_assert!(text.len() <= MAX_BYTES && text.lines().count() <= MAX_LINES);
            let wanted = format!("hint: go get {module}@{version}");
            prop_assert!(text.contains(&wanted), "{}", text);
            prop_assert!(text.contains("rule 1 "));
        }
    }
}
