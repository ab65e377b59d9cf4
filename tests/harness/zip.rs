//! Module zips for the scripted upstream: entries stored, not compressed (APPNOTE.TXT 4.3).

/// The zip of the module `path@version` with these files.
pub fn module_zip(path: &str, version: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = Vec::new();
    let mut directory = Vec::new();
    for (name, content) in files {
        let name = format!("{path}@{version}/{name}");
        let offset = u32::try_from(zip.len()).expect("a small zip");
        let fields = fields(&name, content);
        zip.extend(b"PK\x03\x04");
        zip.extend(&fields);
        zip.extend(name.as_bytes());
        zip.extend(*content);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&fields);
        // Comment length, disk, internal and external attributes; then where the entry begins.
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    end(&mut zip, &directory, files.len());
    zip
}

/// What an entry's local and central headers have in common: version needed to extra length.
fn fields(name: &str, content: &[u8]) -> Vec<u8> {
    let size = u32::try_from(content.len())
        .expect("a small file")
        .to_le_bytes();
    let mut fields = vec![20, 0, 0, 0, 0, 0];
    // 1 January 1980, the earliest there is.
    fields.extend([0, 0, 0x21, 0]);
    fields.extend(crc32(content).to_le_bytes());
    fields.extend(size);
    fields.extend(size);
    fields.extend(
        u16::try_from(name.len())
            .expect("a short name")
            .to_le_bytes(),
    );
    fields.extend([0, 0]);
    fields
}

fn end(zip: &mut Vec<u8>, directory: &[u8], entries: usize) {
    let start = u32::try_from(zip.len()).expect("a small zip").to_le_bytes();
    let size = u32::try_from(directory.len())
        .expect("a small zip")
        .to_le_bytes();
    let entries = u16::try_from(entries).expect("few entries").to_le_bytes();
    zip.extend(directory);
    zip.extend(b"PK\x05\x06\x00\x00\x00\x00");
    zip.extend(entries);
    zip.extend(entries);
    zip.extend(size);
    zip.extend(start);
    zip.extend([0, 0]);
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}
