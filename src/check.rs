//! `modcdn check FILE`: is this configuration right?

use std::fs;
use std::path::Path;

use modcdn_core::config;

use crate::failure::Failure;
use crate::roles::Role;
use crate::terminal::print;

/// Checks a file; says `FILE: ok (ROLE)` if all is well.
///
/// # Errors
/// The file is wrong, or it is not clear which role it is for.
pub(crate) fn run(file: &Path, role: Option<Role>) -> Result<(), Failure> {
    let role = match role.or_else(|| role_by_name(file)) {
        Some(role) => role,
        None => role_by_content(file)?,
    };
    load(role, file)?;
    print(&format!("{}: ok ({})", file.display(), role.name()));
    Ok(())
}

fn load(role: Role, file: &Path) -> Result<(), config::ConfigError> {
    match role {
        Role::Origin => config::load::<modcdn_origin::Config>(file).map(drop),
        Role::Edge => config::load::<modcdn_edge::Config>(file).map(drop),
        Role::Dns => config::load::<modcdn_dns::Config>(file).map(drop),
    }
}

/// The one role that is a word of the file's name: `edge.yaml`, `eu.edge.yaml`, `dns-2.yml`.
fn role_by_name(file: &Path) -> Option<Role> {
    let name = file.file_name()?.to_str()?;
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
    let mut named = words
        .by_ref()
        .filter_map(|word| Role::ALL.into_iter().find(|role| role.name() == word));
    let role = named.next()?;
    named.all(|other| other == role).then_some(role)
}

/// The role that knows more of the file's keys than any other; of several, the one that the file is right for.
fn role_by_content(file: &Path) -> Result<Role, Failure> {
    let place = file.display();
    // What can't be read or parsed is reported in full once a role is known; until then, briefly.
    let text =
        fs::read_to_string(file).map_err(|error| Failure::Config(format!("{place}: {error}")))?;
    let keys = top_level_keys(&text);
    let known = Role::ALL.map(|role| {
        let of_role = keys_of(role);
        keys.iter().filter(|key| of_role.contains(key)).count()
    });
    let most = known.iter().max();
    let roles = Role::ALL.into_iter().zip(&known);
    let best = roles.filter(|(_, count)| Some(*count) == most);
    let best: Vec<Role> = best.map(|(role, _)| role).collect();
    let right = best.iter().copied();
    let right: Vec<Role> = right.filter(|role| load(*role, file).is_ok()).collect();
    match (&best[..], &right[..]) {
        ([role], _) | (_, [role]) => Ok(*role),
        _ => Err(Failure::Config(format!(
            "{place}: it is not clear which role this is for; say it with --role"
        ))),
    }
}

fn keys_of(role: Role) -> Vec<String> {
    let defaults = match role {
        Role::Origin => serde_yaml::to_string(&modcdn_origin::Config::default()),
        Role::Edge => serde_yaml::to_string(&modcdn_edge::Config::default()),
        Role::Dns => serde_yaml::to_string(&modcdn_dns::Config::default()),
    };
    top_level_keys(&defaults.unwrap_or_default())
}

/// The keys that begin a line: good enough to guess by, also in a file that doesn't parse.
fn top_level_keys(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_alphabetic()))
        .filter_map(|line| line.split_once(':'))
        .map(|(key, _)| key.trim_end().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_is_a_word_of_the_name() {
        for (name, role) in [
            ("edge.yaml", Some(Role::Edge)),
            ("/etc/modcdn/eu.edge.yaml", Some(Role::Edge)),
            ("dns-2.yml", Some(Role::Dns)),
            ("origin", Some(Role::Origin)),
            ("/etc/edge/eu.yaml", None),
            ("hedge.yaml", None),
            ("edge-dns.yaml", None),
        ] {
            assert_eq!(role_by_name(Path::new(name)), role, "{name}");
        }
    }

    #[test]
    fn the_keys_tell_the_role_where_the_name_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("eu.yaml");
        for role in Role::ALL {
            let keys = keys_of(role);
            fs::write(&file, keys.join(":\n") + ":\n").unwrap();
            assert_eq!(role_by_content(&file).unwrap(), role);
        }
        // Edges have mounts, too, but no upstreams.
        let text = "listen: ['127.0.0.1:1']\nmounts: [{prefix: /, upstream: 'off'}]\n";
        fs::write(&file, text).unwrap();
        assert_eq!(role_by_content(&file).unwrap(), Role::Origin);
        fs::write(&file, "name: eu\n").unwrap();
        let Err(Failure::Config(text)) = role_by_content(&file) else {
            panic!("guessed by a key that all roles have")
        };
        assert!(text.contains("--role"), "{text}");
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("origin.yaml");
        fs::write(&file, "name: a\nlimitz: {}\n").unwrap();
        let Err(Failure::Config(text)) = run(&file, None) else {
            panic!("an unknown key passed")
        };
        assert!(
            text.starts_with(&format!("{}:2:1: ", file.display())),
            "{text}"
        );
        assert!(run(&dir.path().join("edge.yaml"), None).is_err());
    }
}
