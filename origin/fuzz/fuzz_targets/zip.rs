//! No bytes panic the checker of module zips or take more memory than allowed; a zip that was scanned
//! while it came is judged as one that was read at once; what is made is taken with its h1.

#![no_main]

use std::io::{self, Read};

use libfuzzer_sys::fuzz_target;
use modcdn_origin::archive::{
    Checked, Fault, Input, Kind, Limits, Scan, check, check_scanned, write,
};

const LIMITS: Limits = Limits {
    packed: 1 << 20,
    unpacked: 1 << 20,
    go_mod: 1 << 10,
    license: 1 << 10,
    files: 100,
    directory: 1 << 14,
};

struct File<'f>(&'f str, &'f [u8]);

impl Input for File<'_> {
    fn path(&self) -> &str {
        self.0
    }

    fn kind(&self) -> Kind {
        Kind::File
    }

    fn size(&self) -> u64 {
        self.1.len() as u64
    }

    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(self.1))
    }
}

/// Judges an archive in both ways.
fn judge(zip: &[u8], cut: usize) -> Result<Checked, Fault> {
    let (module, version) = ("a.example/m".parse().unwrap(), "v1.0.0".parse().unwrap());
    let len = zip.len() as u64;
    let whole = check(&zip, len, &module, &version, &LIMITS);
    let mut scan = Scan::new(&module, &version, LIMITS);
    zip.chunks(cut).for_each(|piece| scan.feed(piece));
    let scanned = check_scanned(&zip, len, &module, &version, &LIMITS, Some(scan));
    match (&whole, &scanned) {
        (Ok(one), Ok(other)) => assert_eq!(one, other),
        (Err(one), Err(other)) => assert_eq!(one.name(), other.name()),
        _ => panic!("{whole:?} but {scanned:?}"),
    }
    whole
}

fuzz_target!(|input: (Vec<(&str, &[u8])>, Vec<(u16, u8)>, u8, &[u8])| {
    let (files, flips, cut, raw) = input;
    let cut = usize::from(cut) + 1;
    let _ = judge(raw, cut);
    let files: Vec<_> = files.iter().map(|(name, content)| File(name, content)).collect();
    let (module, version) = ("a.example/m".parse().unwrap(), "v1.0.0".parse().unwrap());
    let mut zip = Vec::new();
    let Ok(h1) = write(&mut zip, &module, &version, &files, &LIMITS) else {
        return;
    };
    assert_eq!(judge(&zip, cut).unwrap().h1, h1);
    // Counted from the end: there is the directory.
    let len = zip.len();
    for (at, flip) in flips {
        zip[len - 1 - usize::from(at) % len] ^= flip;
    }
    let _ = judge(&zip, cut);
});
