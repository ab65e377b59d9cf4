//! What is to be asked for, from files of the go command and from names. Pure.

use std::collections::BTreeMap;

use modcdn_core::goproxy::{ModulePath, Request, Version};
use modcdn_core::h1::H1;

/// The versions that are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted(BTreeMap<(String, Version), Sums>);

/// What is wanted of a version, and what it must hash to where that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sums {
    module: Option<ModulePath>,
    zip: bool,
    zip_h1: Option<H1>,
    mod_h1: Option<H1>,
}

/// One thing to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) request: Request,
    /// What it must hash to.
    pub(super) h1: Option<H1>,
}

impl Wanted {
    /// A `go.sum`: more than a go.mod only where there is a line of a zip.
    ///
    /// # Errors
    /// The line that isn't one, by number.
    pub(super) fn add_sum(&mut self, text: &str) -> Result<(), String> {
        for (at, line) in text.lines().enumerate() {
            if !line.trim().is_empty() {
                self.add_sum_line(line)
                    .map_err(|fault| format!("{}: {fault}", at + 1))?;
            }
        }
        Ok(())
    }

    fn add_sum_line(&mut self, line: &str) -> Result<(), String> {
        let mut words = line.split_whitespace();
        let (Some(module), Some(version), Some(sum), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err("not a line of go.sum: MODULE VERSION HASH expected".to_owned());
        };
        // Hashes of kinds that come after h1 are for those who know them.
        let h1 = match sum.starts_with("h1:") {
            true => Some(sum.parse().map_err(|fault| format!("{fault}"))?),
            false => None,
        };
        match version.strip_suffix("/go.mod") {
            Some(version) => {
                let sums = self.sums(module, version)?;
                sums.mod_h1 = h1.or(sums.mod_h1);
            }
            None => {
                let sums = self.sums(module, version)?;
                sums.zip = true;
                sums.zip_h1 = h1.or(sums.zip_h1);
            }
        }
        Ok(())
    }

    /// A `go.mod`: its requirements, all of each.
    ///
    /// # Errors
    /// The line that can't be read, by number.
    pub(super) fn add_mod(&mut self, text: &str) -> Result<(), String> {
        let mut block: Option<String> = None;
        for (at, line) in text.lines().enumerate() {
            let line = line.split("//").next().unwrap_or_default().trim();
            let mut words = line.split_whitespace();
            let first = words.next();
            let required = match (&block, first) {
                (_, None) => continue,
                (Some(_), Some(")")) => {
                    block = None;
                    continue;
                }
                (Some(of), Some(_)) => (of == "require").then(|| line.split_whitespace()),
                (None, Some(verb)) => {
                    if line.ends_with('(') {
                        block = Some(verb.trim_end_matches('(').to_owned());
                        continue;
                    }
                    (verb == "require").then_some(words)
                }
            };
            let Some(mut required) = required else {
                continue;
            };
            let (Some(module), Some(version)) = (required.next(), required.next()) else {
                return Err(format!("{}: require MODULE VERSION expected", at + 1));
            };
            let sums = self
                .sums(unquoted(module), unquoted(version))
                .map_err(|fault| format!("{}: {fault}", at + 1))?;
            sums.zip = true;
        }
        Ok(())
    }

    /// `MODULE@VERSION`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn add_name(&mut self, name: &str) -> Result<(), String> {
        let (module, version) = name
            .split_once('@')
            .ok_or("neither a go.sum, nor a go.mod, nor MODULE@VERSION")?;
        self.sums(module, version)?.zip = true;
        Ok(())
    }

    fn sums(&mut self, module: &str, version: &str) -> Result<&mut Sums, String> {
        let path: ModulePath = module
            .parse()
            .map_err(|fault| format!("{module:?}: {fault}"))?;
        let parsed: Version = version
            .parse()
            .map_err(|fault| format!("{version:?}: {fault}"))?;
        if !path.allows(&parsed) {
            return Err(format!("{module} can have no version {version}"));
        }
        let sums = self.0.entry((module.to_owned(), parsed)).or_default();
        sums.module = Some(path);
        Ok(sums)
    }

    /// Everything to ask for: of each version what is small before what is large.
    pub(super) fn items(&self) -> Vec<Item> {
        let mut items = Vec::with_capacity(3 * self.0.len());
        for ((_, version), sums) in &self.0 {
            let Some(module) = &sums.module else {
                continue;
            };
            let of =
                |make: fn(ModulePath, Version) -> Request| make(module.clone(), version.clone());
            items.push(Item {
                request: of(Request::Mod),
                h1: sums.mod_h1,
            });
            // Of what is only in the module graph, the go command asks for the go.mod alone.
            if sums.zip {
                items.push(Item {
                    request: of(Request::Info),
                    h1: None,
                });
                items.push(Item {
                    request: of(Request::Zip),
                    h1: sums.zip_h1,
                });
            }
        }
        items
    }
}

fn unquoted(text: &str) -> &str {
    text.trim_matches(['"', '`'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const H: &str = "h1:LzX7hefJvL54yjefDEDHNONDjII0t9xZLPXsUe+TKr0=";

    fn paths(wanted: &Wanted) -> Vec<String> {
        let items = wanted.items();
        items
            .iter()
            .map(|item| {
                let known = if item.h1.is_some() { " h1" } else { "" };
                format!("{}{known}", item.request.path())
            })
            .collect()
    }

    #[test]
    fn a_go_sum_wants_only_the_go_mod_of_what_it_has_no_zip_of() {
        let mut wanted = Wanted::default();
        let text = format!(
            "a.example/A v1.0.0 {H}\na.example/A v1.0.0/go.mod {H}\n\nb.example/b v0.1.0/go.mod {H}\n\
             b.example/b v0.1.0/go.mod h2:later\n"
        );
        wanted.add_sum(&text).unwrap();
        assert_eq!(
            paths(&wanted),
            [
                "/a.example/!a/@v/v1.0.0.mod h1",
                "/a.example/!a/@v/v1.0.0.info",
                "/a.example/!a/@v/v1.0.0.zip h1",
                "/b.example/b/@v/v0.1.0.mod h1",
            ]
        );
    }

    #[test]
    fn a_go_mod_wants_its_requirements() {
        let mut wanted = Wanted::default();
        let text = "module x.example/x\n\ngo 1.22\n\nrequire a.example/a v1.0.0 // indirect\n\
                    require (\n\t\"b.example/b\" v1.0.0\n\t// nothing\n)\n\
                    exclude c.example/c v1.0.0\nreplace (\n\td.example/d v1.0.0 => ../d\n)\n";
        wanted.add_mod(text).unwrap();
        wanted.add_name("e.example/e/v2@v2.0.0").unwrap();
        let zips: Vec<String> = paths(&wanted).into_iter().skip(2).step_by(3).collect();
        assert_eq!(
            zips,
            [
                "/a.example/a/@v/v1.0.0.zip",
                "/b.example/b/@v/v1.0.0.zip",
                "/e.example/e/v2/@v/v2.0.0.zip",
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line() {
        let mut wanted = Wanted::default();
        let error = wanted
            .add_sum(&format!("a.example/a v1.0.0 {H}\nx\n"))
            .unwrap_err();
        assert!(error.starts_with("2: "), "{error}");
        assert!(
            wanted
                .add_sum("a.example/a v1.0.0 h1:x")
                .unwrap_err()
                .starts_with("1: ")
        );
        assert!(wanted.add_mod("require x\n").is_err());
        assert!(wanted.add_mod("require a.example/a v2.0.0\n").is_err());
        for name in ["a.example/a", "a.example/a@latest", "a@v1.0.0"] {
            assert!(wanted.add_name(name).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,200}", lines in "(require|module|\\(|\\)|[a-z./ v0-9\n\"])*") {
            let mut wanted = Wanted::default();
            let _ = wanted.add_sum(&text);
            let _ = wanted.add_mod(&text);
            let _ = wanted.add_mod(&lines);
            let _ = wanted.add_name(&text);
        }
    }
}
