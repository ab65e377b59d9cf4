//! Stored `.info`s on one core.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::median;
use super::nodes::{Node, nginx, origin};
use super::rig::{GENERATOR, Outcome, cpu_seconds};

const PATH: &str = "/example.com/bench/@v/v1.0.0.info";
const ROUNDS: usize = 5;
const SECONDS: u64 = 3;

pub(super) fn run(dir: &Path) -> Outcome<()> {
    let tree = dir.join("info-tree");
    let versions = tree.join("example.com/bench/@v");
    fs::create_dir_all(&versions)?;
    let text = r#"{"Version":"v1.0.0","Time":"2026-01-01T00:00:00Z"}"#;
    fs::write(versions.join("v1.0.0.info"), text)?;
    let plain = nginx(&dir.join("info-nginx"), &tree, true, "0")?;
    let ours = origin(
        &dir.join("info-origin"),
        &format!("file://{}", tree.display()),
        "0",
    )?;
    let mut figures = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (node, figures) in [&plain, &ours].into_iter().zip(&mut figures) {
            figures.push(load(node)?);
        }
    }
    println!(
        "{:<18} {:>10} {:>12}",
        "stored .info", "req/s", "CPU µs/req"
    );
    for (name, figures) in ["nginx", "origin"].into_iter().zip(figures) {
        let (rate, cpu): (Vec<f64>, Vec<f64>) = figures.into_iter().unzip();
        println!("{name:<18} {:>10.0} {:>12.1}", median(rate), median(cpu));
    }
    println!();
    Ok(())
}

/// Requests a second, and microseconds of the server's CPU time a request.
fn load(node: &Node) -> Outcome<(f64, f64)> {
    let before = cpu_seconds(node.pid)?;
    let generator = GENERATOR.to_string();
    let output = Command::new("taskset")
        .args(["-c", &generator, "h2load", "-t1", "-c8", "-m16"])
        .args(["-D", &SECONDS.to_string(), &format!("{}{PATH}", node.url())])
        .output()?;
    let used = cpu_seconds(node.pid)? - before;
    let text = String::from_utf8_lossy(&output.stdout);
    let count = |what: &str| {
        let digits = text[..text.find(what)?].rsplit(|c: char| !c.is_ascii_digit());
        digits.into_iter().next()?.parse::<f64>().ok()
    };
    let done = count(" 2xx").filter(|done| *done > 0.0);
    let done = done.ok_or_else(|| format!("nothing succeeded:\n{text}"))?;
    Ok((done / SECONDS as f64, used * 1e6 / done))
}
