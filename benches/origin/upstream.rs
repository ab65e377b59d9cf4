//! A file server that thinks before it answers: an upstream at a distance.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread::{sleep, spawn};
use std::time::Duration;

use super::rig::Outcome;

/// Serves a tree on a port of its own until the process ends.
pub(super) fn serve(tree: &Path, delay: Duration) -> Outcome<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let tree = tree.to_owned();
    spawn(move || {
        for stream in listener.incoming().flatten() {
            let tree = tree.clone();
            spawn(move || answer_all(&stream, &tree, delay));
        }
    });
    Ok(port)
}

fn answer_all(stream: &TcpStream, tree: &Path, delay: Duration) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream).lines();
    let mut out = stream;
    while let Some(line) = lines.next().transpose()? {
        let path = line.split(' ').nth(1).unwrap_or("/").replace("%21", "!");
        // Up to the blank line.
        while lines
            .next()
            .transpose()?
            .is_some_and(|line| !line.is_empty())
        {}
        sleep(delay);
        let file: PathBuf = tree.join(path.trim_start_matches('/'));
        match fs::read(file) {
            Ok(body) => {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                out.write_all(&[head.as_bytes(), &body].concat())?;
            }
            Err(_) => out.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")?,
        }
    }
    Ok(())
}
