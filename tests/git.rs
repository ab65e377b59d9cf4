//! Modules straight from Git are what the go command itself makes of them: for repositories of many
//! shapes, a real `go` with GOPROXY=direct and one that comes through our origin are told the same
//! versions, times, hashes and refusals.

mod harness;

#[path = "git/contents.rs"]
mod contents;
#[path = "git/shapes.rs"]
mod shapes;

use serde_json::Value;

use harness::forge::{Forge, PRIVATE, PUBLIC};
use harness::go::Go;
use harness::node::Node;
use shapes::Shape;

/// Who a repository's modules are asked of: a user whose `go` fetches them itself, and one whose
/// `go` asks our origin.
struct Pair {
    direct: Go,
    proxied: Go,
}

impl Pair {
    fn new(forge: &Forge, origin: &Node) -> Pair {
        let mut direct = Go::with_proxy("direct")
            .env("GOINSECURE", "forge.test,gopkg.in,other.test")
            .env("GOVCS", "*:all");
        for (name, value) in forge.environment() {
            // Each is one of four names.
            direct = direct.env(String::leak(name), value);
        }
        let proxied = Go::with_proxy(origin.url());
        Pair { direct, proxied }
    }

    /// What both say of some versions and queries, which must be the same.
    fn agree(&self, shape: &Shape) -> Vec<Value> {
        let asked: Vec<String> = shape.asked();
        let mut arguments = vec!["mod", "download", "-json"];
        arguments.extend(asked.iter().map(String::as_str));
        let expected = told(&self.direct.ask(&arguments).stdout);
        let found = told(&self.proxied.ask(&arguments).stdout);
        assert_eq!(expected.len(), asked.len(), "{}: {expected:#?}", shape.name);
        for (expected, found) in expected.iter().zip(&found) {
            let has_origin = !found["Origin"].is_null();
            assert_eq!(
                essence(expected, has_origin),
                essence(found, has_origin),
                "{}\ndirect: {expected:#}\nours: {found:#}",
                shape.name
            );
        }
        assert_eq!(expected.len(), found.len(), "{}", shape.name);
        self.agree_on_lists(shape);
        found
    }

    fn agree_on_lists(&self, shape: &Shape) {
        let mut arguments = vec!["list", "-m", "-e", "-json", "-versions"];
        let latest: Vec<String> = shape.modules().map(|m| format!("{m}@latest")).collect();
        arguments.extend(latest.iter().map(String::as_str));
        let listed = |go: &Go| -> Vec<Value> {
            let keep = |told: Value| {
                let error = !told["Error"].is_null();
                let parts = ["Path", "Version", "Versions", "Time"].map(|key| told[key].clone());
                serde_json::json!({ "parts": parts, "error": error })
            };
            told(&go.ask(&arguments).stdout)
                .into_iter()
                .map(keep)
                .collect()
        };
        assert_eq!(
            listed(&self.direct),
            listed(&self.proxied),
            "{}",
            shape.name
        );
    }
}

/// The JSON values that `go` printed, one after another.
fn told(stdout: &str) -> Vec<Value> {
    let values = serde_json::Deserializer::from_str(stdout).into_iter();
    values.map(|value| value.expect("go prints JSON")).collect()
}

/// What must be the same. The digest of all tags is left out of our `Origin`: no proxy's answers are checked
/// against it.
fn essence(told: &Value, has_origin: bool) -> Value {
    let keys = ["VCS", "URL", "Subdir", "Hash"];
    let origin = has_origin.then(|| keys.map(|key| told["Origin"][key].clone()));
    serde_json::json!({
        "module": told["Path"],
        "version": told["Version"],
        "sum": told["Sum"],
        "go.mod": told["GoModSum"],
        "origin": origin,
        "refused": !told["Error"].is_null(),
    })
}

/// Runs a shape as private modules.
fn check(make: impl FnOnce(&Forge) -> Shape) {
    let forge = Forge::start();
    let shape = make(&forge);
    let origin = forge.origin(PRIVATE, "");
    let found = Pair::new(&forge, &origin).agree(&shape);
    shape.holds(&found);
}

macro_rules! shapes {
    ($($fact:ident: $shape:path;)*) => {
        $(#[test] fn $fact() { check($shape); })*
    };
}

shapes! {
    a_plain_module_is_as_go_has_it: shapes::plain;
    pseudo_versions_are_as_go_makes_them: shapes::untagged;
    prereleases_are_as_go_orders_them: shapes::prereleases;
    a_module_in_a_folder_has_the_folders_tags: shapes::folder;
    many_modules_in_one_repository_are_told_apart: shapes::many;
    a_major_version_may_be_a_branch: shapes::major_branch;
    a_major_version_may_be_a_folder: shapes::major_folder;
    later_versions_without_go_mod_are_incompatible: shapes::incompatible;
    no_go_mod_is_a_go_mod_with_the_path: contents::no_go_mod;
    a_module_below_a_module_is_left_out: contents::nested;
    vendored_packages_are_left_out: contents::vendored;
    links_and_submodules_are_left_out: contents::links;
    attributes_count_as_go_lets_them: contents::attributes;
    the_license_of_the_root_is_everybodys: contents::license;
    tags_elsewhere_than_on_the_main_branch_count: shapes::elsewhere;
    upper_case_is_escaped: shapes::upper_case;
    odd_names_of_branches_and_tags_harm_nobody: shapes::odd_names;
    dotted_major_versions_are_as_on_gopkg: shapes::gopkg;
    an_empty_repository_has_no_versions: shapes::empty;
    retracted_versions_are_no_base: shapes::retracted;
    files_that_collide_are_refused: contents::colliding;
    a_go_mod_of_another_path_is_refused: contents::misnamed;
    a_tag_with_metadata_is_a_base: shapes::metadata;
    a_folder_may_come_from_the_tag: contents::import_folder;
    sha_256_names_are_commits_too: shapes::sha256;
}

#[test]
fn public_modules_come_straight_from_git_where_the_chain_says_direct() {
    let forge = Forge::start();
    let shape = shapes::plain(&forge);
    let origin = forge.origin(PUBLIC, "");
    let found = Pair::new(&forge, &origin).agree(&shape);
    shape.holds(&found);
}
