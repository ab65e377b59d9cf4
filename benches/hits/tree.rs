//! The modules that are served.

use std::fs;
use std::path::Path;

use super::rig::{Outcome, incompressible, module_zip};
use super::{BIG_ZIP_BYTES, COLD_BYTES, COLD_ZIPS, INFO_BYTES, ZIP_BYTES};

const MODULE: &str = "example.com/bench";
const GO_MOD: &[u8] = b"module example.com/bench\n";

pub(super) fn make_tree(dir: &Path) -> Outcome<()> {
    let versions = dir.join("tree").join(MODULE).join("@v");
    fs::create_dir_all(&versions)?;
    let head = r#"{"Version":"v1.0.0","Time":"2026-01-01T00:00:00Z","Origin":{"Ref":""#;
    let tail = r#""}}"#;
    let fill = "x".repeat(INFO_BYTES - head.len() - tail.len());
    fs::write(versions.join("v1.0.0.info"), format!("{head}{fill}{tail}"))?;
    let version = |name: &str, bytes: usize| -> Outcome<()> {
        fs::write(versions.join(format!("{name}.mod")), GO_MOD)?;
        let files: [(&str, &[u8]); 2] = [("go.mod", GO_MOD), ("data", &incompressible(bytes))];
        let zip = module_zip(MODULE, name, &files);
        Ok(fs::write(versions.join(format!("{name}.zip")), zip)?)
    };
    version("v1.0.0", ZIP_BYTES)?;
    version("v1.1.0", BIG_ZIP_BYTES)?;
    (0..COLD_ZIPS).try_for_each(|n| version(&format!("v1.2.{n}"), COLD_BYTES))
}
