//! Repositories of many shapes, each with what is to be asked of it: their tags, branches and
//! histories.

use serde_json::Value;

use crate::harness::forge::Forge;
use crate::harness::repository::Repository;

/// A repository and what is asked of its modules.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    /// Module and version or query.
    asked: Vec<(String, String)>,
    /// Of those, how many are refused.
    refused: usize,
}

impl Shape {
    pub(crate) fn new(name: &'static str, refused: usize, asked: &[(&str, &[&str])]) -> Shape {
        let pairs = asked.iter().flat_map(|(module, queries)| {
            let pair = |query: &&str| ((*module).to_owned(), (*query).to_owned());
            queries.iter().map(pair)
        });
        Shape {
            name,
            asked: pairs.collect(),
            refused,
        }
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        let spec = |(module, query): &(String, String)| format!("{module}@{query}");
        self.asked.iter().map(spec).collect()
    }

    pub(crate) fn modules(&self) -> impl Iterator<Item = &str> {
        let mut all: Vec<&str> = self
            .asked
            .iter()
            .map(|(module, _)| module.as_str())
            .collect();
        all.dedup();
        all.into_iter()
    }

    /// A shape that is refused by mistake would agree with itself: so much must come through.
    pub(crate) fn holds(&self, found: &[Value]) {
        let refused = found.iter().filter(|told| !told["Error"].is_null());
        assert_eq!(refused.count(), self.refused, "{}: {found:#?}", self.name);
    }
}

pub(crate) fn go_mod(repository: &Repository, folder: &str, module: &str) {
    let slash = if folder.is_empty() { "" } else { "/" };
    repository
        .write(
            &format!("{folder}{slash}go.mod"),
            &format!("module {module}\n\ngo 1.20\n"),
        )
        .write(&format!("{folder}{slash}x.go"), "package x\n");
}

/// A pseudo-version.
fn pseudo(base: &str, repository: &Repository, commit: &str) -> String {
    let time = repository.git(&[
        "show",
        "-s",
        "--date=format-local:%Y%m%d%H%M%S",
        "--format=%cd",
        commit,
    ]);
    format!("{base}{time}-{}", &commit[..12])
}

pub(crate) fn plain(forge: &Forge) -> Shape {
    let repository = forge.repository("plain");
    let module = "forge.test/plain";
    go_mod(&repository, "", module);
    repository.write("LICENSE", "do what you like\n");
    repository.write("sub/deep/y.go", "package deep\n");
    let first = repository.commit("first");
    repository.tag("v1.0.0");
    repository
        .write("x.go", "package x // more\n")
        .commit("second");
    repository.annotated("v1.1.0").annotated("not-a-version");
    repository.write("x.go", "package x // yet more\n");
    let last = repository.commit("third");
    repository.publish();
    forge.import(module, "plain");
    let early = pseudo("v0.0.0-", &repository, &first);
    let late = pseudo("v1.1.1-0.", &repository, &last);
    let wrong_time = format!("v1.1.1-0.20190101000000-{}", &last[..12]);
    let wrong_base = pseudo("v1.9.0-0.", &repository, &last);
    let long = pseudo("v1.1.1-0.", &repository, &last) + &last[12..14];
    Shape::new(
        "plain",
        9,
        &[
            (
                module,
                &[
                    "v1.0.0",
                    "v1.1.0",
                    "latest",
                    "main",
                    "not-a-version",
                    &first,
                    &first[..8],
                    &last[..7],
                    &late,
                    "v1",
                    "v1.0",
                    "<v1.1.0",
                    // Right, though the commit has a tag: it is based on none.
                    &early,
                    // Refused: unknown, ambiguous or misshapen.
                    "v1.2.0",
                    "v2.0.0",
                    "nobranch",
                    "abcdef0",
                    &first[..5],
                    &wrong_time,
                    &wrong_base,
                    &long,
                ],
            ),
            ("forge.test/plain/sub/deep", &["latest"]),
        ],
    )
}

pub(crate) fn untagged(forge: &Forge) -> Shape {
    let repository = forge.repository("untagged");
    let module = "forge.test/untagged";
    go_mod(&repository, "", module);
    let first = repository.commit("first");
    repository.write("a.go", "package x\n");
    let second = repository.commit("second");
    repository.publish();
    forge.import(module, "untagged");
    let of_second = pseudo("v0.0.0-", &repository, &second);
    let of_v1 = pseudo("v1.0.0-", &repository, &second);
    Shape::new(
        "untagged",
        2,
        &[(
            module,
            &[
                "latest", "main", "HEAD", &first, &of_second, &of_v1, "v0.0.1",
            ],
        )],
    )
}

pub(crate) fn prereleases(forge: &Forge) -> Shape {
    let repository = forge.repository("pre");
    let module = "forge.test/pre";
    go_mod(&repository, "", module);
    repository.commit("first");
    repository
        .tag("v1.0.0-alpha.2")
        .tag("v1.0.0-alpha.10")
        .tag("v1.0.0-RC.1");
    repository.write("a.go", "package x\n");
    let later = repository.commit("second");
    repository.publish();
    forge.import(module, "pre");
    let of_later = pseudo("v1.0.0-alpha.10.0.", &repository, &later);
    Shape::new(
        "prereleases",
        0,
        &[(
            module,
            &["latest", "main", "v1.0.0-alpha.2", "v1.0.0-RC.1", &of_later],
        )],
    )
}

pub(crate) fn folder(forge: &Forge) -> Shape {
    let repository = forge.repository("folder");
    repository.write("README", "nothing here\n");
    go_mod(&repository, "lib/deep", "forge.test/folder/lib/deep");
    repository.commit("first");
    repository.tag("lib/deep/v0.1.0").tag("v9.9.9");
    repository
        .write("lib/deep/z.go", "package x\n")
        .write("lib/other.go", "package lib\n");
    let second = repository.commit("second");
    repository.tag("lib/deep/v2.0.0");
    repository.publish();
    forge.import("forge.test/folder", "folder");
    let of_second = pseudo("v0.1.1-0.", &repository, &second);
    Shape::new(
        "folder",
        3,
        &[
            (
                "forge.test/folder/lib/deep",
                &["latest", "main", "v0.1.0", &of_second, "v0.2.0"],
            ),
            ("forge.test/folder/lib", &["latest"]),
            ("forge.test/folder/lib/deep/v2", &["latest"]),
        ],
    )
}

pub(crate) fn many(forge: &Forge) -> Shape {
    let repository = forge.repository("many");
    go_mod(&repository, "", "forge.test/many");
    go_mod(&repository, "a", "forge.test/many/a");
    go_mod(&repository, "b/v3", "forge.test/many/b/v3");
    repository
        .write("go.work", "go 1.20\n\nuse .\nuse ./a\n")
        .commit("first");
    repository
        .tag("v1.0.0")
        .tag("a/v1.5.0")
        .tag("b/v3.1.0")
        .tag("b/v1.0.0");
    repository.write("a/new.go", "package x\n").commit("second");
    repository.publish();
    forge.import("forge.test/many", "many");
    Shape::new(
        "many",
        1,
        &[
            ("forge.test/many", &["latest", "main", "v1.0.0"]),
            ("forge.test/many/a", &["latest", "main"]),
            ("forge.test/many/b/v3", &["latest", "main"]),
            ("forge.test/many/b", &["latest"]),
        ],
    )
}

pub(crate) fn major_branch(forge: &Forge) -> Shape {
    let repository = forge.repository("branch");
    let module = "forge.test/branch";
    go_mod(&repository, "", module);
    repository.commit("first");
    repository.tag("v1.0.0");
    repository.branch("v2");
    go_mod(&repository, "", "forge.test/branch/v2");
    repository.commit("second");
    repository.tag("v2.0.0");
    repository.write("more.go", "package x\n").commit("third");
    repository
        .branch("main")
        .write("other.go", "package x\n")
        .commit("fourth");
    repository.publish();
    forge.import(module, "branch");
    Shape::new(
        "major branch",
        3,
        &[
            (
                module,
                &["latest", "main", "v1.0.0", "v2.0.0", "v2.0.0+incompatible"],
            ),
            ("forge.test/branch/v2", &["latest", "v2", "v2.0.0"]),
            ("forge.test/branch/v3", &["latest"]),
        ],
    )
}

pub(crate) fn major_folder(forge: &Forge) -> Shape {
    let repository = forge.repository("major");
    let module = "forge.test/major";
    go_mod(&repository, "", module);
    go_mod(&repository, "v2", "forge.test/major/v2");
    repository.commit("first");
    repository.tag("v1.0.0").tag("v2.0.0");
    repository
        .write("v2/more.go", "package x\n")
        .commit("second");
    repository.publish();
    forge.import(module, "major");
    Shape::new(
        "major folder",
        1,
        &[
            (module, &["latest", "main", "v1.0.0", "v2.0.0"]),
            ("forge.test/major/v2", &["latest", "main", "v2.0.0"]),
        ],
    )
}

pub(crate) fn incompatible(forge: &Forge) -> Shape {
    let repository = forge.repository("old");
    let module = "forge.test/old";
    repository.write("x.go", "package x\n");
    repository.commit("first");
    repository.tag("v1.0.0").tag("v2.0.0").tag("v2.1.0-pre");
    repository.write("y.go", "package x\n");
    let second = repository.commit("second");
    repository.branch("three");
    go_mod(&repository, "", "forge.test/old/v3");
    repository.commit("third");
    repository.tag("v3.0.0");
    repository.branch("four").remove("go.mod");
    go_mod(&repository, "v4", "forge.test/old/v4");
    repository.commit("fourth");
    repository.tag("v4.0.0");
    repository.publish();
    forge.import(module, "old");
    let of_second = pseudo("v2.0.1-0.", &repository, &second) + "+incompatible";
    let of_nothing = pseudo("v2.0.0-", &repository, &second) + "+incompatible";
    Shape::new(
        "incompatible",
        3,
        &[
            (
                module,
                &[
                    "latest",
                    "main",
                    "v1.0.0",
                    "v2.0.0",
                    "v2.0.0+incompatible",
                    "v2.1.0-pre+incompatible",
                    "v4.0.0+incompatible",
                    &of_second,
                    &of_nothing,
                    "v3.0.0+incompatible",
                    "v1.0.0+incompatible",
                    "v4.0.0",
                ],
            ),
            ("forge.test/old/v3", &["latest"]),
            ("forge.test/old/v4", &["latest"]),
        ],
    )
}

pub(crate) fn elsewhere(forge: &Forge) -> Shape {
    let repository = forge.repository("elsewhere");
    let module = "forge.test/elsewhere";
    go_mod(&repository, "", module);
    repository.commit("first");
    repository
        .branch("release")
        .write("fix.go", "package x\n")
        .commit("fix");
    repository.tag("v1.0.1");
    repository.write("fix.go", "package x // again\n");
    let after = repository.commit("fix again");
    repository.branch("main").write("new.go", "package x\n");
    let main = repository.commit("new");
    repository.publish();
    forge.import(module, "elsewhere");
    let wrong = pseudo("v1.0.2-0.", &repository, &main);
    Shape::new(
        "elsewhere",
        1,
        &[(
            module,
            &["latest", "main", "release", "v1.0.1", &after, &wrong],
        )],
    )
}

pub(crate) fn upper_case(forge: &Forge) -> Shape {
    let repository = forge.repository("Upper");
    let module = "forge.test/Team/UPPER";
    go_mod(&repository, "", module);
    go_mod(&repository, "Sub", "forge.test/Team/UPPER/Sub");
    repository.commit("first");
    repository.tag("v1.0.0-RC1").tag("Sub/v1.0.0");
    repository
        .branch("Feature")
        .write("f.go", "package x\n")
        .commit("second");
    repository.publish();
    forge.import(module, "Upper");
    Shape::new(
        "upper case",
        0,
        &[
            (module, &["latest", "v1.0.0-RC1", "Feature"]),
            ("forge.test/Team/UPPER/Sub", &["latest"]),
        ],
    )
}

pub(crate) fn odd_names(forge: &Forge) -> Shape {
    let repository = forge.repository("odd");
    let module = "forge.test/odd";
    go_mod(&repository, "", module);
    let first = repository.commit("first");
    repository
        .branch("feature-x")
        .write("f.go", "package x\n")
        .commit("second");
    // Names that would be options, and one that looks like a commit's.
    for name in [
        "refs/heads/--upload-pack=touch",
        "refs/heads/-x",
        "refs/tags/--output=y",
    ] {
        repository.git(&["update-ref", name, "HEAD"]);
    }
    repository.git(&["update-ref", "refs/heads/abcdef1", "HEAD"]);
    repository.git(&["update-ref", "refs/heads/v1.5.0", "HEAD"]);
    repository.git(&["update-ref", "refs/tags/both", &first]);
    repository.git(&["update-ref", "refs/heads/both", "HEAD"]);
    repository.branch("main");
    repository.publish();
    forge.import(module, "odd");
    Shape::new(
        "odd names",
        1,
        &[(
            module,
            &["latest", "feature-x", "abcdef1", "both", "v1.5.0"],
        )],
    )
}

pub(crate) fn gopkg(forge: &Forge) -> Shape {
    let repository = forge.repository("gopkg");
    repository.write("x.go", "package x\n").commit("first");
    repository.tag("v1.0.0").tag("v2.0.0");
    repository
        .branch("v2-unstable")
        .write("y.go", "package x\n")
        .commit("second");
    repository.branch("main");
    go_mod(&repository, "", "gopkg.in/x.v3");
    repository.commit("third");
    repository.tag("v3.0.0");
    repository.publish();
    for module in [
        "gopkg.in/x.v1",
        "gopkg.in/x.v2",
        "gopkg.in/x.v3",
        "gopkg.in/x.v2-unstable",
    ] {
        forge.import(module, "gopkg");
    }
    Shape::new(
        "gopkg",
        3,
        &[
            ("gopkg.in/x.v1", &["latest", "v1.0.0", "v2.0.0"]),
            ("gopkg.in/x.v2", &["latest", "v2.0.0", "main"]),
            ("gopkg.in/x.v3", &["latest", "main"]),
            ("gopkg.in/x.v2-unstable", &["v2-unstable", "latest"]),
        ],
    )
}

pub(crate) fn empty(forge: &Forge) -> Shape {
    let repository = forge.repository("empty");
    repository.publish();
    forge.import("forge.test/empty", "empty");
    Shape::new(
        "empty",
        3,
        &[("forge.test/empty", &["latest", "main", "v1.0.0"])],
    )
}

pub(crate) fn retracted(forge: &Forge) -> Shape {
    let repository = forge.repository("retracted");
    let module = "forge.test/retracted";
    go_mod(&repository, "", module);
    repository.commit("first");
    repository.tag("v1.0.0");
    repository.write("a.go", "package x\n").commit("second");
    repository.tag("v1.2.0");
    repository.write("b.go", "package x\n");
    let between = repository.commit("third");
    repository
        .branch("side")
        .write("c.go", "package x\n")
        .commit("fourth");
    repository.branch("main").write(
        "go.mod",
        "module forge.test/retracted\n\ngo 1.20\n\nretract (\n\tv1.2.0 // oops\n\t[v1.3.0, v1.4.0]\n)\n",
    );
    repository.commit("fifth");
    repository.tag("v1.2.1").tag("v1.3.5");
    repository.publish();
    forge.import(module, "retracted");
    let of_retracted = pseudo("v1.2.1-0.", &repository, &between);
    Shape::new(
        "retracted",
        0,
        &[(
            module,
            &[
                "latest",
                "v1.2.0",
                "v1.3.5",
                &between,
                "side",
                "main",
                &of_retracted,
            ],
        )],
    )
}

pub(crate) fn metadata(forge: &Forge) -> Shape {
    let repository = forge.repository("metadata");
    let module = "forge.test/metadata";
    go_mod(&repository, "", module);
    repository.commit("first");
    repository
        .tag("v1.0.0+meta")
        .tag("v1.0")
        .tag("v0.9.0-20200101000000-abcdefabcdef");
    repository.write("a.go", "package x\n");
    let second = repository.commit("second");
    repository.publish();
    forge.import(module, "metadata");
    let of_second = pseudo("v1.0.1-0.", &repository, &second);
    Shape::new(
        "metadata",
        1,
        &[(
            module,
            &["latest", "main", "v1.0.0+meta", "v1.0", &of_second],
        )],
    )
}

pub(crate) fn sha256(forge: &Forge) -> Shape {
    let repository = forge.repository_sha256("sha256");
    let module = "forge.test/sha256";
    go_mod(&repository, "", module);
    let first = repository.commit("first");
    repository.tag("v1.0.0");
    repository.write("a.go", "package x\n").commit("second");
    repository.publish();
    forge.import(module, "sha256");
    Shape::new(
        "sha256",
        0,
        &[(module, &["latest", "main", "v1.0.0", &first, &first[..12]])],
    )
}
