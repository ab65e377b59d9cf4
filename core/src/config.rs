//! Configuration files: YAML, one a role, every key known, every mistake named with its place.
//!
//! A configuration is a typed value with a default for every key that can have one. Unknown keys
//! are refused (`#[serde(deny_unknown_fields)]` on every struct), so a misspelt limit can't
//! silently mean "no limit".

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// No configuration of ours is near this size; a larger file is somebody's mistake.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// What a role can be configured with.
pub trait Config: Default + Serialize + DeserializeOwned {
    /// Rules over several keys, which no single key's type can hold.
    ///
    /// # Errors
    /// All problems found, not only the first.
    fn check(&self) -> Result<(), Vec<Problem>>;
}

/// Something wrong in a configuration that parses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key at fault, dotted from the top: `origin.url`.
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl Problem {
    /// A problem with one key.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

/// Why a configuration can't be used. Prints a line a problem, each beginning with the file.
#[derive(Debug)]
pub enum ConfigError {
    /// The file can't be read.
    Read {
        /// The file's name, as given.
        file: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Not YAML, an unknown key, or a value of the wrong form.
    Parse {
        /// The file's name, as given.
        file: String,
        /// Line and column, from 1, where the parser knows them.
        place: Option<(usize, usize)>,
        /// What is wrong.
        message: String,
    },
    /// Each key is well-formed, together they make no sense.
    Check {
        /// The file's name, as given.
        file: String,
        /// Everything that is wrong, with the line and column of the key where it stands.
        problems: Vec<(Option<(usize, usize)>, Problem)>,
    },
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { file, error } => write!(f, "{}: {error}", file.display()),
            Self::Parse {
                file,
                place,
                message,
            } => write_line(f, file, *place, message),
            Self::Check { file, problems } => {
                for (n, (place, problem)) in problems.iter().enumerate() {
                    if n > 0 {
                        f.write_str("\n")?;
                    }
                    write_line(f, file, *place, problem)?;
                }
                Ok(())
            }
        }
    }
}

fn write_line(
    f: &mut fmt::Formatter<'_>,
    file: &str,
    place: Option<(usize, usize)>,
    message: impl fmt::Display,
) -> fmt::Result {
    match place {
        Some((line, column)) => write!(f, "{file}:{line}:{column}: {message}"),
        None => write!(f, "{file}: {message}"),
    }
}

/// Reads, parses and checks a configuration file.
///
/// # Errors
/// See [`ConfigError`].
pub fn load<C: Config>(path: &Path) -> Result<C, ConfigError> {
    let text = read_bounded(path).map_err(|error| ConfigError::Read {
        file: path.to_owned(),
        error,
    })?;
    parse(&path.display().to_string(), &text)
}

/// Parses and checks a configuration; `file` is what errors call it.
///
/// An empty text is the default configuration.
///
/// # Errors
/// See [`ConfigError`].
pub fn parse<C: Config>(file: &str, text: &str) -> Result<C, ConfigError> {
    let parsed: Option<C> =
        serde_yaml::from_str(text).map_err(|error| parse_error(file, &error))?;
    let config = parsed.unwrap_or_default();
    config.check().map_err(|problems| ConfigError::Check {
        file: file.to_owned(),
        problems: problems
            .into_iter()
            .map(|problem| (place_of(text, &problem.key), problem))
            .collect(),
    })?;
    Ok(config)
}

/// The dotted names of the keys whose values differ between two configurations. A list counts as one
/// value; those in `one_by_one` are compared item by item (`mounts[1].prefix`) where they are as long.
pub fn changed<C: Config>(old: &C, new: &C, one_by_one: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    // A configuration came from text: it can be written as text again.
    if let (Ok(old), Ok(new)) = (serde_json::to_value(old), serde_json::to_value(new)) {
        compare("", &old, &new, one_by_one, &mut found);
    }
    found
}

/// Whether a dotted key is one of `sections`, or lies in one.
#[must_use]
pub fn is_within(key: &str, sections: &[&str]) -> bool {
    sections.iter().any(|section| {
        key.strip_prefix(section)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

fn compare(key: &str, old: &Value, new: &Value, one_by_one: &[&str], found: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let gone = old.keys().filter(|name| !new.contains_key(*name));
            for name in new.keys().chain(gone) {
                let key = if key.is_empty() {
                    name.clone()
                } else {
                    format!("{key}.{name}")
                };
                let of = |object: &serde_json::Map<String, Value>| {
                    object.get(name).cloned().unwrap_or(Value::Null)
                };
                compare(&key, &of(old), &of(new), one_by_one, found);
            }
        }
        (Value::Array(old), Value::Array(new))
            if one_by_one.contains(&key) && old.len() == new.len() =>
        {
            for (at, (old, new)) in old.iter().zip(new).enumerate() {
                compare(&format!("{key}[{at}]"), old, new, one_by_one, found);
            }
        }
        _ if old != new => found.push(key.to_owned()),
        _ => {}
    }
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(path)?
        .take(MAX_CONFIG_BYTES + 1)
        .read_to_string(&mut text)?;
    if read as u64 > MAX_CONFIG_BYTES {
        return Err(std::io::Error::other(format!(
            "larger than {MAX_CONFIG_BYTES} bytes: not a configuration"
        )));
    }
    Ok(text)
}

fn parse_error(file: &str, error: &serde_yaml::Error) -> ConfigError {
    // serde_yaml ends its text with the place, which we put in front instead.
    let mut message = error.to_string();
    let place = error.location().map(|l| (l.line(), l.column()));
    if let Some((line, column)) = place {
        let tail = format!(" at line {line} column {column}");
        if let Some(at) = message.rfind(&tail) {
            message.truncate(at);
        }
    }
    ConfigError::Parse {
        file: file.to_owned(),
        place,
        message,
    }
}

/// The line and column at which the last part of a dotted key stands, if each part is found in
/// turn, each deeper indented than the one before. Block style only: what it can't find it leaves
/// out, and the key's name is printed anyway.
fn place_of(text: &str, key: &str) -> Option<(usize, usize)> {
    let mut lines = text.lines().enumerate();
    let mut depth = None;
    let mut place = None;
    for part in key.split('.') {
        let (line, indent) = lines.by_ref().find_map(|(n, line)| {
            let indent = line.len() - line.trim_start().len();
            let rest = line.trim_start().trim_start_matches("- ");
            let is_key = rest
                .strip_prefix(part)
                .is_some_and(|after| after.trim_start().starts_with(':'));
            (is_key && depth.is_none_or(|d| indent > d)).then_some((n, indent))
        })?;
        depth = Some(indent);
        place = Some((line + 1, indent + 1));
    }
    place
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::units::{ByteSize, Period};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Sample {
        size: ByteSize,
        waits: Waits,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Waits {
        connect: Period,
    }

    impl Default for Sample {
        fn default() -> Self {
            Self {
                size: ByteSize::gib(10),
                waits: Waits::default(),
            }
        }
    }

    impl Default for Waits {
        fn default() -> Self {
            Self {
                connect: Period::secs(5),
            }
        }
    }

    impl Config for Sample {
        fn check(&self) -> Result<(), Vec<Problem>> {
            if self.waits.connect.is_zero() {
                return Err(vec![Problem::new("waits.connect", "must be above zero")]);
            }
            Ok(())
        }
    }

    #[test]
    fn an_empty_file_is_the_default() {
        for text in ["", "# only a comment\n", "{}"] {
            assert_eq!(parse::<Sample>("a.yaml", text).unwrap(), Sample::default());
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place() {
        let error = parse::<Sample>("a.yaml", "size: 1GiB\nwaits:\n  conect: 5s\n").unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("a.yaml:3:3: "), "{text}");
        assert!(
            text.contains("conect") && text.contains("expected"),
            "{text}"
        );
        assert!(!text.contains("at line"), "{text}");
    }

    #[test]
    fn a_value_of_the_wrong_form_says_what_was_expected() {
        let error = parse::<Sample>("a.yaml", "waits: {connect: 5}").unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("a.yaml:1:") && text.contains("duration"),
            "{text}"
        );
    }

    #[test]
    fn a_rule_over_keys_is_reported_where_the_key_stands() {
        let error = parse::<Sample>("a.yaml", "size: 1GiB\nwaits:\n  connect: 0s\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "a.yaml:3:3: waits.connect: must be above zero"
        );
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load::<Sample>(Path::new("/nowhere/a.yaml")).unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/a.yaml: "));
    }

    #[test]
    fn a_serialised_configuration_parses_to_itself() {
        let text = serde_yaml::to_string(&Sample::default()).unwrap();
        assert_eq!(parse::<Sample>("a.yaml", &text).unwrap(), Sample::default());
    }

    #[test]
    fn the_keys_that_differ_are_named() {
        let read = |text| parse::<Sample>("a.yaml", text).unwrap();
        let (old, new) = (read("{}"), read("{size: 1GiB, waits: {connect: 6s}}"));
        assert_eq!(changed(&old, &new, &[]), ["size", "waits.connect"]);
        assert!(changed(&old, &old, &[]).is_empty());
        for (key, within) in [
            ("waits", true),
            ("waits.connect", true),
            ("waitsome", false),
        ] {
            assert_eq!(is_within(key, &["size", "waits"]), within, "{key}");
        }
    }
}
