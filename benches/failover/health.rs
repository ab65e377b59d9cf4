//! Health endpoints of PoPs that can be made to fail.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::rig::Outcome;

/// What a PoP is made to be.
#[derive(Clone, Copy, Default)]
struct Pop {
    sick: bool,
    /// When it first said so.
    failed: Option<Instant>,
}

/// A server at which `/N` is the health of the PoP of that number.
pub(crate) struct Health {
    address: SocketAddr,
    pops: Arc<Mutex<Vec<Pop>>>,
}

impl Health {
    pub(crate) fn start(pops: usize) -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let health = Self {
            address: listener.local_addr()?,
            pops: Arc::new(Mutex::new(vec![Pop::default(); pops])),
        };
        let pops = health.pops.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let pops = pops.clone();
                std::thread::spawn(move || answer(stream, &pops));
            }
        });
        Ok(health)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn set_sick(&self, pop: usize, sick: bool) {
        let fresh = Pop { sick, failed: None };
        self.pops.lock().unwrap_or_else(PoisonError::into_inner)[pop] = fresh;
    }

    /// When a PoP first failed a check since it is sick.
    pub(crate) fn failed(&self, pop: usize) -> Option<Instant> {
        self.pops.lock().unwrap_or_else(PoisonError::into_inner)[pop].failed
    }
}

/// Answers the requests of one connection.
fn answer(mut stream: TcpStream, pops: &Mutex<Vec<Pop>>) {
    let mut bytes = [0; 2048];
    while let Ok(length @ 1..) = stream.read(&mut bytes) {
        let text = String::from_utf8_lossy(&bytes[..length]);
        let path = text
            .split(' ')
            .nth(1)
            .and_then(|path| path.strip_prefix('/'));
        let Some(pop) = path.and_then(|path| path.parse::<usize>().ok()) else {
            return;
        };
        let sick = {
            let mut pops = pops.lock().unwrap_or_else(PoisonError::into_inner);
            let pop = &mut pops[pop];
            if pop.sick {
                pop.failed.get_or_insert_with(Instant::now);
            }
            pop.sick
        };
        let status = if sick { "503 Sick" } else { "200 OK" };
        let written = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        if written.is_err() {
            return;
        }
    }
}
