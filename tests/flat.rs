//! An origin's memory while long bodies pass: flat, whatever their number and length.

mod harness;

use bytes::Bytes;
use harness::certificate::Certificate;
use harness::http::Client;
use harness::node::Node;
use harness::process::{peak_memory, reset_peak_memory};
use harness::s3::S3;
use harness::scratch::Scratch;
use harness::upstream::Upstream;

const MODULES: usize = 10;
const LEN: usize = 24 << 20;
/// Above what it takes to run. All bodies together are almost four times as long.
const MOST: u64 = 64 << 20;

fn passes_flat(upstream: &Upstream, overrides: &str) {
    let blob = vec![7; LEN];
    let names: Vec<String> = (0..MODULES).map(|n| format!("example.com/m{n}")).collect();
    for name in &names {
        upstream.module(name, &["v1.0.0"], &blob);
    }
    let mut origin = Node::origin(&upstream.url(), overrides);
    // What is only ever allocated once is no matter here.
    Client::h2(origin.url())
        .get("/example.com/m0/@v/v1.0.0.info")
        .ok();
    reset_peak_memory(origin.pid());
    let base = peak_memory(origin.pid());
    for _ in ["fetched", "stored"] {
        std::thread::scope(|scope| {
            for name in &names {
                let url = origin.url().to_owned();
                scope.spawn(move || {
                    let path = format!("/{name}/@v/v1.0.0.zip");
                    let body: Bytes = Client::h2(&url).get(&path).ok().body;
                    assert!(body.len() > LEN);
                });
            }
        });
        let peak = peak_memory(origin.pid());
        assert!(
            peak - base < MOST,
            "{} MiB above {} MiB",
            (peak - base) >> 20,
            base >> 20
        );
    }
}

#[test]
fn long_bodies_pass_a_disk_in_little_memory() {
    passes_flat(&Upstream::start(), "");
}

#[test]
fn long_bodies_pass_a_bucket_in_little_memory() {
    let s3 = S3::start();
    passes_flat(&Upstream::start(), &s3.store(""));
}

/// A sender that is faster than our disk fills its window, whatever the number of bodies in it.
#[test]
fn long_bodies_come_over_one_connection_in_little_memory() {
    let scratch = Scratch::new("flat");
    let certificate = Certificate::in_folder(scratch.path());
    let trusting = format!("upstreams: {{ca: ['{}']}}\n", certificate.file().display());
    passes_flat(&Upstream::over_tls(&certificate), &trusting);
}
