//! Repositories of many shapes: what is in their files.

use crate::harness::forge::Forge;
use crate::shapes::{Shape, go_mod};

pub(crate) fn no_go_mod(forge: &Forge) -> Shape {
    let repository = forge.repository("bare");
    repository
        .write("x.go", "package x\n")
        .write("sub/y.go", "package sub\n");
    repository.commit("first");
    repository.tag("v0.1.0").tag("sub/v0.1.0");
    repository.publish();
    forge.import("forge.test/bare", "bare");
    Shape::new(
        "no go.mod",
        2,
        &[
            ("forge.test/bare", &["latest", "v0.1.0"]),
            ("forge.test/bare/sub", &["latest"]),
            ("forge.test/bare/v2", &["latest"]),
        ],
    )
}

pub(crate) fn nested(forge: &Forge) -> Shape {
    let repository = forge.repository("nested");
    go_mod(&repository, "", "forge.test/nested");
    go_mod(&repository, "inner", "forge.test/nested/inner");
    repository.write("inner/deep/z.go", "package deep\n");
    repository
        .write("odd/go.mod", "not a module at all\n")
        .write("odd/z.go", "package odd\n");
    repository
        .write("testdata/GO.MOD", "upper case\n")
        .write("testdata/z", "left out\n");
    repository.commit("first");
    repository.tag("v1.0.0").tag("inner/v1.0.0");
    repository.publish();
    forge.import("forge.test/nested", "nested");
    Shape::new(
        "nested",
        0,
        &[
            ("forge.test/nested", &["v1.0.0"]),
            ("forge.test/nested/inner", &["v1.0.0"]),
        ],
    )
}

pub(crate) fn vendored(forge: &Forge) -> Shape {
    let repository = forge.repository("vendored");
    for (version, go) in [("v1.0.0", "1.20"), ("v1.1.0", "1.24")] {
        let text = format!("module forge.test/vendored\n\ngo {go}\n");
        repository
            .write("go.mod", &text)
            .write("x.go", "package x\n");
        repository
            .write("vendor/modules.txt", "# a.example/b v1.0.0\n")
            .write("vendor/a.example/b/b.go", "package b\n")
            .write("vendor/file.go", "package vendor\n")
            .write("sub/vendor/modules.txt", "# none\n")
            .write("sub/vendor/c/c.go", "package c\n")
            .write("sub/vendor/d.go", "package vendor\n");
        repository.commit(version);
        repository.tag(version);
    }
    repository.publish();
    forge.import("forge.test/vendored", "vendored");
    Shape::new(
        "vendored",
        0,
        &[("forge.test/vendored", &["v1.0.0", "v1.1.0"])],
    )
}

pub(crate) fn links(forge: &Forge) -> Shape {
    let other = forge.repository("submodule");
    other.write("z.go", "package z\n").commit("first");
    other.publish();
    let repository = forge.repository("links");
    go_mod(&repository, "", "forge.test/links");
    repository
        .link("link.go", "x.go")
        .link("nowhere", "/etc/passwd")
        .link("folder", "sub");
    repository.write("sub/y.go", "package sub\n");
    let from = other.bare().to_str().expect("a path of UTF-8").to_owned();
    repository.git(&[
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "add",
        "-q",
        &from,
        "below",
    ]);
    repository.commit("first");
    repository.tag("v1.0.0");
    repository.publish();
    forge.import("forge.test/links", "links");
    Shape::new("links", 0, &[("forge.test/links", &["latest", "v1.0.0"])])
}

pub(crate) fn attributes(forge: &Forge) -> Shape {
    let repository = forge.repository("attributes");
    go_mod(&repository, "", "forge.test/attributes");
    repository
        .write(
            ".gitattributes",
            "version.txt export-subst\nignored.go export-ignore\n*.crlf text eol=crlf\n\
             *.lf text eol=lf\n*.auto text=auto\nid.txt ident\n*.filtered filter=nobody\n\
             *.latin working-tree-encoding=UTF-16\ngo.mod text eol=crlf\n",
        )
        .write("version.txt", "$Format:%H$\n")
        .write("ignored.go", "package x\n")
        .write("a.crlf", "one\ntwo\n")
        .write("a.lf", "one\r\ntwo\r\n")
        .write("a.auto", "one\r\ntwo\n")
        .write("id.txt", "$Id$\n")
        .write("plain.txt", "one\r\ntwo\n")
        .write("a.filtered", "as it is\n");
    repository.commit("first");
    repository.tag("v1.0.0");
    repository.publish();
    forge.import("forge.test/attributes", "attributes");
    Shape::new(
        "attributes",
        0,
        &[("forge.test/attributes", &["latest", "v1.0.0"])],
    )
}

pub(crate) fn license(forge: &Forge) -> Shape {
    let repository = forge.repository("license");
    repository.write("LICENSE", "of the root\n");
    go_mod(&repository, "", "forge.test/license");
    go_mod(&repository, "without", "forge.test/license/without");
    go_mod(&repository, "with", "forge.test/license/with");
    go_mod(&repository, "v2", "forge.test/license/v2");
    repository.write("with/LICENSE", "of its own\n");
    repository.commit("first");
    repository
        .tag("v1.0.0")
        .tag("without/v1.0.0")
        .tag("with/v1.0.0")
        .tag("v2.0.0");
    repository.publish();
    forge.import("forge.test/license", "license");
    Shape::new(
        "license",
        0,
        &[
            ("forge.test/license", &["v1.0.0"]),
            ("forge.test/license/without", &["v1.0.0"]),
            ("forge.test/license/with", &["v1.0.0"]),
            ("forge.test/license/v2", &["v2.0.0"]),
        ],
    )
}

pub(crate) fn colliding(forge: &Forge) -> Shape {
    let repository = forge.repository("colliding");
    let module = "forge.test/colliding";
    go_mod(&repository, "", module);
    repository
        .write("README", "one\n")
        .write("readme", "two\n")
        .commit("first");
    repository.tag("v1.0.0");
    repository
        .remove("readme")
        .write("a:b.go", "package x\n")
        .commit("second");
    repository.tag("v1.1.0");
    repository
        .remove("a:b.go")
        .write("Go.mod", "module x\n")
        .commit("third");
    repository.tag("v1.2.0");
    repository.publish();
    forge.import(module, "colliding");
    Shape::new("colliding", 3, &[(module, &["v1.0.0", "v1.1.0", "v1.2.0"])])
}

pub(crate) fn misnamed(forge: &Forge) -> Shape {
    let repository = forge.repository("misnamed");
    let module = "forge.test/misnamed";
    for (tag, text) in [
        ("v1.0.0", "module forge.test/other\n"),
        ("v1.1.0", "module forge.test/misnamed/v2\n"),
        ("v1.2.0", "module \"forge.test/misnamed\" // quoted\n"),
        ("v1.3.0", "// nothing\n"),
        ("v1.4.0", "module gopkg.in/misnamed.v7\n"),
        ("v1.5.0", "module forge.test/misnamed/v1\n"),
    ] {
        repository
            .write("go.mod", text)
            .write("x.go", "package x\n")
            .commit(tag);
        repository.tag(tag);
    }
    repository.publish();
    forge.import(module, "misnamed");
    let all = [
        "v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0", "v1.4.0", "v1.5.0", "main",
    ];
    Shape::new("misnamed", 4, &[(module, &all)])
}

pub(crate) fn import_folder(forge: &Forge) -> Shape {
    let repository = forge.repository("mono");
    go_mod(&repository, "go/lib", "other.test/lib");
    go_mod(&repository, "go/lib/v2", "other.test/lib/v2");
    repository.write("LICENSE", "of the root\n").commit("first");
    repository.tag("go/lib/v1.0.0").tag("go/lib/v2.0.0");
    repository.publish();
    forge.import_as("other.test/lib", "git http://forge.test/r/mono.git go/lib");
    Shape::new(
        "import folder",
        0,
        &[
            ("other.test/lib", &["latest", "main", "v1.0.0"]),
            ("other.test/lib/v2", &["latest", "v2.0.0"]),
        ],
    )
}
