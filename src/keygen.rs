//! `modcdn dns keygen`: makes a key that signs a zone, and says what its parent zone needs.

use modcdn_dns::dnssec::file;
use serde::Serialize;

use crate::cli::KeygenArgs;
use crate::failure::Failure;
use crate::terminal::print;

/// The key made, as `--json` says it.
#[derive(Serialize)]
struct Made {
    zone: String,
    algorithm: u8,
    tag: u16,
    flags: u16,
    file: String,
    dnskey: String,
    ds: Option<String>,
}

/// Makes the key's files and prints its DNSKEY and DS records; a key that the parent zone needn't
/// know has no DS record.
///
/// # Errors
/// If a file can't be written.
pub(crate) fn run(args: &KeygenArgs) -> Result<(), Failure> {
    let (zone, role) = (args.zone.name(), args.role());
    let (path, key) = file::create(&args.dir, zone, args.algorithm.into(), role)
        .map_err(|error| Failure::doing("keygen", error))?;
    let made = Made {
        zone: zone.to_lowercase().to_ascii(),
        algorithm: key.algorithm().number(),
        tag: key.tag(),
        flags: role.flags(),
        file: path.display().to_string(),
        dnskey: key.dnskey_line(zone),
        ds: role.is_entry_point().then(|| key.ds_line(zone)),
    };
    let text = if args.json {
        serde_json::to_string(&made).expect("plain data is written as JSON")
    } else {
        text(&made)
    };
    print(&text);
    Ok(())
}

/// Comments for people around lines for zone files.
fn text(made: &Made) -> String {
    let mut text = format!("; private key: {}\n{}", made.file, made.dnskey);
    if let Some(ds) = &made.ds {
        text.push_str("\n; for the parent zone, once the server answers with the record above:\n");
        text.push_str(ds);
    }
    text
}
