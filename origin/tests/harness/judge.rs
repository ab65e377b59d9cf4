//! The checker's judgement of archives in memory, each asked for in every way there is.

use std::io::Write;

use modcdn_core::goproxy::{ModulePath, Version};
use modcdn_origin::archive::{Checked, Fault, Limits, Scan, check, check_scanned};

pub(crate) const MODULE: &str = "example.com/M";
pub(crate) const VERSION: &str = "v1.2.3";
pub(crate) const PREFIX: &str = "example.com/M@v1.2.3/";

/// Judges an archive: read from disk, and scanned in pieces of several sizes. All must agree.
pub(crate) fn judge(bytes: &[u8]) -> Result<Checked, Fault> {
    judge_within(bytes, &Limits::default())
}

pub(crate) fn judge_within(bytes: &[u8], limits: &Limits) -> Result<Checked, Fault> {
    judge_as(bytes, MODULE, VERSION, limits)
}

pub(crate) fn judge_as(
    bytes: &[u8],
    module: &str,
    version: &str,
    limits: &Limits,
) -> Result<Checked, Fault> {
    let module: ModulePath = module.parse().unwrap();
    let version: Version = version.parse().unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let len = bytes.len() as u64;
    let verdict = check(&file, len, &module, &version, limits);
    for size in [1, 7, 100, 70_000] {
        if bytes.len() / size > 20_000 {
            continue;
        }
        let mut scan = Scan::new(&module, &version, *limits);
        bytes.chunks(size).for_each(|piece| scan.feed(piece));
        let scanned = check_scanned(&file, len, &module, &version, limits, Some(scan));
        match (&verdict, &scanned) {
            (Ok(one), Ok(other)) => assert_eq!(one, other, "pieces of {size}"),
            (Err(one), Err(other)) => assert_eq!(one.name(), other.name(), "pieces of {size}"),
            _ => panic!("pieces of {size}: {verdict:?} but {scanned:?}"),
        }
    }
    verdict
}

/// The name of the fault that an archive has.
pub(crate) fn fault(bytes: &[u8]) -> &'static str {
    judge(bytes).map_or_else(|fault| fault.name(), |good| panic!("accepted: {good:?}"))
}
