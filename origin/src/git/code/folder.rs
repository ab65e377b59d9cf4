//! Which folder of a commit is the module's: where its go.mod says so.

use bytes::Bytes;

use super::layout::join;
use super::{Code, MAX_GO_MOD, declared};
use crate::git::fault::Fault;
use crate::git::refs::Commit;

/// A module's folder in a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folder {
    /// Empty for the repository's root.
    pub(super) path: String,
    /// None where there is none and needs to be none: at the root, for versions that may be old.
    pub(super) go_mod: Option<Bytes>,
}

impl Code<'_> {
    /// The module's folder in a commit. It has a go.mod of the right major version, or it is the
    /// root of the repository and has none; of the folder for the path and the one for its major
    /// version, exactly one is right.
    pub(super) async fn folder(&self, commit: &Commit) -> Result<Folder, Fault> {
        let layout = &self.layout;
        let first = join(&layout.folder, "go.mod");
        let second = layout.major_folder.as_ref().map(|dir| join(dir, "go.mod"));
        let mut paths = vec![first.as_str()];
        paths.extend(second.as_deref());
        let mut read = self.mirror.files(commit, &paths, MAX_GO_MOD).await?;
        let second = second.and_then(|path| Some((path, read.pop()??)));
        let first = read.pop().flatten().map(|go_mod| (first, go_mod));
        self.choose(first, second).map_err(|why| {
            let at = &commit.as_str()[..12];
            Fault::Nothing(format!("{why} (at {at} of {})", self.remote()))
        })
    }

    /// Chooses between two go.mod files, each with its path.
    fn choose(
        &self,
        first: Option<(String, Bytes)>,
        second: Option<(String, Bytes)>,
    ) -> Result<Folder, String> {
        let layout = &self.layout;
        let (module, major) = (&layout.module, &layout.major);
        let declares = |found: &Option<(String, Bytes)>| {
            found.as_ref().map(|(_, go_mod)| declared::path(go_mod))
        };
        let (of_first, of_second) = (declares(&first), declares(&second));
        let first_fits = of_first
            .as_deref()
            .is_some_and(|path| layout.fits(path) || layout.fits_by_mistake(path));
        let second_fits = of_second.as_deref().is_some_and(|path| layout.fits(path));
        match (first, second) {
            (Some((a, _)), Some((b, _))) if first_fits && second_fits => {
                Err(format!("{a} and {b} both declare a ...{major} module path"))
            }
            (_, Some((_, go_mod))) if second_fits => Ok(Folder {
                path: layout.major_folder.clone().unwrap_or_default(),
                go_mod: Some(go_mod),
            }),
            (_, Some((path, _))) => Err(misfit(&path, of_second, major)),
            (Some((_, go_mod)), None) if first_fits => Ok(Folder {
                path: layout.folder.clone(),
                go_mod: Some(go_mod),
            }),
            (Some((path, _)), None) => Err(misfit(&path, of_first, major)),
            (None, None) if layout.folder.is_empty() && !major.starts_with('/') => Ok(Folder {
                path: String::new(),
                go_mod: None,
            }),
            (None, None) => Err(match &layout.major_folder {
                Some(second) => format!(
                    "missing {} and {second}/go.mod, one of which would make it {module}",
                    join(&layout.folder, "go.mod")
                ),
                None => format!("missing {}", join(&layout.folder, "go.mod")),
            }),
        }
    }
}

fn misfit(path: &str, declared: Option<String>, major: &str) -> String {
    match declared.filter(|declared| !declared.is_empty()) {
        None => format!("{path} is missing a module path"),
        Some(declared) if major.is_empty() => {
            format!("{path} declares {declared:?}, which is not a path of v0 or v1")
        }
        Some(declared) => format!("{path} declares {declared:?}, which does not end in {major}"),
    }
}
