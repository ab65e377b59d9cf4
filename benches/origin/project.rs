//! A cold `go mod download` of a made project.
//!
//! 180 modules in six depths, each requiring a few of the next depth; zips from 2 KiB to a few MiB,
//! 91 MB together, as a real project of that size has. From an upstream that answers at once (what
//! two more hops cost), and from one that thinks for as long as a line to another region takes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::median;
use super::nodes::{edge, nginx, nginx_cache, origin};
use super::rig::{Outcome, incompressible, module_zip};
use super::upstream;

const MODULES: usize = 180;
const DEPTH: usize = 6;
const ROUNDS: usize = 5;

/// How long the far upstream thinks before each answer.
const FAR: Duration = Duration::from_millis(20);

pub(super) fn run(dir: &Path) -> Outcome<()> {
    let tree = dir.join("project-tree");
    let bytes = make(&tree)?;
    let project = make_project(&dir.join("project"))?;
    println!(
        "go mod download, {MODULES} modules, {} MB, seconds",
        bytes / 1_000_000
    );
    let near = nginx(&dir.join("project-nginx"), &tree, false, "0,1")?;
    compare(dir, &project, near.port, "an upstream at hand")?;
    let far = upstream::serve(&tree, FAR)?;
    compare(dir, &project, far, "an upstream 20 ms away")
}

/// Every contender has as many hops as ours: what a hop costs at all is seen by nginx's.
fn compare(dir: &Path, project: &Path, upstream: u16, named: &str) -> Outcome<()> {
    let url = format!("http://127.0.0.1:{upstream}");
    let (mut straight, mut through, mut again) = (Vec::new(), Vec::new(), Vec::new());
    let mut nginx = Vec::new();
    for round in 0..ROUNDS {
        straight.push(download(dir, project, &url)?);
        let home = dir.join(format!("project-{round}"));
        {
            let origin = origin(&home, &url, "0,1")?;
            let edge = edge(&home, &origin)?;
            through.push(download(dir, project, &edge.url())?);
            again.push(download(dir, project, &edge.url())?);
        }
        {
            let inner = nginx_cache(&home.join("inner"), upstream)?;
            let outer = nginx_cache(&home.join("outer"), inner.port)?;
            nginx.push(download(dir, project, &outer.url())?);
        }
        fs::remove_dir_all(&home)?;
    }
    let straight = median(straight);
    println!("straight from {named:<22} {straight:>8.2}");
    for (name, seconds) in [
        ("cold through two caches of nginx", nginx),
        ("cold through edge and origin", through),
        ("warm through the edge", again),
    ] {
        let seconds = median(seconds);
        println!("{name:<36} {seconds:>8.2}  {:.2} x", seconds / straight);
    }
    println!();
    Ok(())
}

fn name(n: usize) -> String {
    format!("example.com/dep{n:03}")
}

/// Which modules a module requires: three of the next depth.
fn requires(n: usize) -> Vec<usize> {
    let width = MODULES / DEPTH;
    let next = (n / width + 1) * width;
    let of_next = |k: usize| next + (n * 7 + k * 11) % width;
    (0..3).map(of_next).filter(|n| *n < MODULES).collect()
}

/// From 2 KiB to a few MiB, most of them small.
fn size(n: usize) -> usize {
    let share = ((n * 37) % MODULES) as f64 / MODULES as f64;
    (2048.0 * 4000_f64.powf(share.powi(2))) as usize
}

fn make(tree: &Path) -> Outcome<usize> {
    let blob = incompressible(8 << 20);
    let mut bytes = 0;
    for n in 0..MODULES {
        let module = name(n);
        let versions = tree.join(&module).join("@v");
        fs::create_dir_all(&versions)?;
        let required = requires(n);
        let lines: String = required
            .iter()
            .map(|n| format!("require {} v1.0.0\n", name(*n)))
            .collect();
        let go_mod = format!("module {module}\n\ngo 1.22\n\n{lines}");
        let files: [(&str, &[u8]); 2] = [("go.mod", go_mod.as_bytes()), ("data", &blob[..size(n)])];
        let zip = module_zip(&module, "v1.0.0", &files);
        bytes += zip.len();
        let info = r#"{"Version":"v1.0.0","Time":"2026-01-01T00:00:00Z"}"#;
        fs::write(versions.join("list"), "v1.0.0\n")?;
        fs::write(versions.join("v1.0.0.info"), info)?;
        fs::write(versions.join("v1.0.0.mod"), &go_mod)?;
        fs::write(versions.join("v1.0.0.zip"), zip)?;
    }
    Ok(bytes)
}

fn make_project(dir: &Path) -> Outcome<PathBuf> {
    fs::create_dir_all(dir)?;
    let lines: String = (0..MODULES)
        .map(|n| format!("require {} v1.0.0\n", name(n)))
        .collect();
    fs::write(
        dir.join("go.mod"),
        format!("module example.com/project\n\ngo 1.22\n\n{lines}"),
    )?;
    Ok(dir.to_owned())
}

/// Seconds of one `go mod download` with nothing in the module cache.
fn download(dir: &Path, project: &Path, proxy: &str) -> Outcome<f64> {
    let cache = dir.join("gomodcache");
    let started = Instant::now();
    let output = Command::new("go")
        .args(["mod", "download"])
        .current_dir(project)
        .env("GOPROXY", proxy)
        .env("GOMODCACHE", &cache)
        .env("GOFLAGS", "-modcacherw -mod=mod")
        .env("GOSUMDB", "off")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .output()?;
    let seconds = started.elapsed().as_secs_f64();
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        return Err(format!("go mod download from {proxy}: {told}").into());
    }
    fs::remove_dir_all(&cache)?;
    Ok(seconds)
}
