//! What nobody can be cheaper than: the kernel's part of sending a body over this machine's loopback.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::spawn;

use super::rig::{GENERATOR, Outcome, incompressible, own_cpu_seconds, pin_to};

const MIB: usize = 1 << 20;
/// Sent for each figure.
const TOTAL: usize = 2048 * MIB;

/// Prints the CPU time of one MiB, written in pieces as nginx's records are and as ours are.
pub(super) fn print() -> Outcome<()> {
    println!("floor: CPU µs a MiB of write() alone, the reader on the other core");
    for kib in [16, 256, 1024] {
        println!(
            "{:<18} {:>10.1}",
            format!("{kib} KiB a write"),
            micros(kib << 10)?
        );
    }
    println!();
    Ok(())
}

fn micros(piece: usize) -> Outcome<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let reading = spawn(move || {
        pin_to(GENERATOR)?;
        let mut stream = TcpStream::connect(address)?;
        let mut buffer = vec![0; 128 << 10];
        while stream.read(&mut buffer)? > 0 {}
        std::io::Result::Ok(())
    });
    let writing = spawn(move || -> std::io::Result<f64> {
        pin_to(0)?;
        let (mut stream, _) = listener.accept()?;
        let body = incompressible(MIB);
        let before = own_cpu_seconds().map_err(|_| std::io::ErrorKind::Other)?;
        for _ in 0..TOTAL / MIB {
            for piece in body.chunks(piece) {
                stream.write_all(piece)?;
            }
        }
        let after = own_cpu_seconds().map_err(|_| std::io::ErrorKind::Other)?;
        Ok(after - before)
    });
    let used = writing.join().map_err(|_| "the writer panicked")??;
    reading.join().map_err(|_| "the reader panicked")??;
    Ok(used * 1e6 / (TOTAL / MIB) as f64)
}
