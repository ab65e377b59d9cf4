//! Archives of any kind: honest ones, and such in which single bytes lie.

use bytes::Bytes;
use modcdn_core::goproxy::Request;

/// What both headers of an entry say.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) flags: u16,
    pub(crate) method: u16,
    pub(crate) crc: u32,
    pub(crate) packed: u32,
    pub(crate) size: u32,
    pub(crate) name: Vec<u8>,
    pub(crate) extra: Vec<u8>,
}

/// An entry. Made honest; every field can be changed before the archive is built.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Junk in front of it.
    pub(crate) before: Vec<u8>,
    pub(crate) local: Header,
    pub(crate) data: Vec<u8>,
    pub(crate) descriptor: Vec<u8>,
    pub(crate) central: Header,
    pub(crate) creator: u16,
    pub(crate) attributes: u32,
    pub(crate) comment: Vec<u8>,
    /// Where the directory says that it begins, if that is a lie.
    pub(crate) offset: Option<u32>,
}

/// A descriptor's form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    pub(crate) signature: bool,
    pub(crate) wide: bool,
}

/// An archive.
#[derive(Clone, Debug, Default)]
pub(crate) struct Zip {
    pub(crate) items: Vec<Item>,
    pub(crate) before_directory: Vec<u8>,
    pub(crate) behind_directory: Vec<u8>,
    pub(crate) comment: Vec<u8>,
    pub(crate) behind: Vec<u8>,
    /// What the end record says, if that is a lie.
    pub(crate) entries: Option<u16>,
    pub(crate) directory_size: Option<u32>,
    pub(crate) directory_start: Option<u32>,
    /// The entries, size and place of a zip64 end record; `None` in it is the truth.
    pub(crate) end64: Option<[Option<u64>; 3]>,
}

impl Item {
    pub(crate) fn stored(name: impl Into<Vec<u8>>, content: &[u8]) -> Self {
        Self::with(name.into(), content, 0, content.to_vec())
    }

    pub(crate) fn deflated(name: impl Into<Vec<u8>>, content: &[u8]) -> Self {
        Self::with(name.into(), content, 8, deflate(content))
    }

    fn with(name: Vec<u8>, content: &[u8], method: u16, data: Vec<u8>) -> Self {
        let header = Header {
            flags: 0,
            method,
            crc: zlib_rs::crc32::crc32(0, content),
            packed: u32::try_from(data.len()).unwrap(),
            size: u32::try_from(content.len()).unwrap(),
            name,
            extra: Vec::new(),
        };
        Self {
            before: Vec::new(),
            local: header.clone(),
            data,
            descriptor: Vec::new(),
            central: header,
            creator: 20,
            attributes: 0,
            comment: Vec::new(),
            offset: None,
        }
    }

    /// With a descriptor, and a local header that says nothing.
    pub(crate) fn described(mut self, form: Form) -> Self {
        self.local.flags |= 8;
        self.central.flags |= 8;
        (self.local.crc, self.local.packed, self.local.size) = (0, 0, 0);
        if form.signature {
            self.descriptor.extend(b"PK\x07\x08");
        }
        self.descriptor.extend(self.central.crc.to_le_bytes());
        for number in [self.central.packed, self.central.size] {
            if form.wide {
                self.descriptor.extend(u64::from(number).to_le_bytes());
            } else {
                self.descriptor.extend(number.to_le_bytes());
            }
        }
        self
    }

    /// Changes what both headers say.
    pub(crate) fn both(mut self, change: impl Fn(&mut Header)) -> Self {
        change(&mut self.local);
        change(&mut self.central);
        self
    }

    /// With the mode that Unix knows.
    pub(crate) fn mode(mut self, mode: u32) -> Self {
        self.creator = 3 << 8 | 20;
        self.attributes = mode << 16;
        self
    }
}

/// An extra field.
pub(crate) fn extra(tag: u16, data: &[u8]) -> Vec<u8> {
    let len = u16::try_from(data.len()).unwrap();
    [&tag.to_le_bytes()[..], &len.to_le_bytes(), data].concat()
}

/// A zip64 extra field with these numbers.
pub(crate) fn zip64(numbers: &[u64]) -> Vec<u8> {
    let data: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    extra(1, &data)
}

pub(crate) fn deflate(content: &[u8]) -> Vec<u8> {
    let config = zlib_rs::DeflateConfig {
        window_bits: -15,
        ..zlib_rs::DeflateConfig::default()
    };
    let mut out = vec![0; zlib_rs::compress_bound(content.len()) + 64];
    let (packed, _) = zlib_rs::compress_slice(&mut out, content, config);
    packed.to_vec()
}

impl Zip {
    pub(crate) fn of(items: impl IntoIterator<Item = Item>) -> Self {
        Self {
            items: items.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Without its first entry.
    pub(crate) fn without_first(mut self) -> Self {
        self.items.remove(0);
        self
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let mut zip = Vec::new();
        let mut directory = Vec::new();
        for item in &self.items {
            zip.extend(&item.before);
            let offset = u32::try_from(zip.len()).unwrap();
            zip.extend(b"PK\x03\x04\x14\x00");
            push(&mut zip, &item.local);
            zip.extend(&item.local.name);
            zip.extend(&item.local.extra);
            zip.extend(&item.data);
            zip.extend(&item.descriptor);
            directory.extend(b"PK\x01\x02");
            directory.extend(item.creator.to_le_bytes());
            directory.extend([20, 0]);
            push(&mut directory, &item.central);
            directory.extend(len16(&item.comment));
            directory.extend([0; 4]);
            directory.extend(item.attributes.to_le_bytes());
            directory.extend(item.offset.unwrap_or(offset).to_le_bytes());
            directory.extend(&item.central.name);
            directory.extend(&item.central.extra);
            directory.extend(&item.comment);
        }
        zip.extend(&self.before_directory);
        let start = zip.len() as u64;
        zip.extend(&directory);
        zip.extend(&self.behind_directory);
        self.end(&mut zip, start, directory.len() as u64);
        zip
    }

    fn end(&self, zip: &mut Vec<u8>, start: u64, size: u64) {
        let entries = self.items.len() as u64;
        if let Some(said) = self.end64 {
            let at = zip.len() as u64;
            zip.extend(b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x2d\0\x2d\0\0\0\0\0\0\0\0\0");
            zip.extend(said[0].unwrap_or(entries).to_le_bytes());
            for (said, truth) in said.iter().zip([entries, size, start]) {
                zip.extend(said.unwrap_or(truth).to_le_bytes());
            }
            zip.extend(b"PK\x06\x07\0\0\0\0");
            zip.extend(at.to_le_bytes());
            zip.extend([1, 0, 0, 0]);
        }
        let entries = self.entries.unwrap_or(entries as u16).to_le_bytes();
        zip.extend(b"PK\x05\x06\0\0\0\0");
        zip.extend(entries);
        zip.extend(entries);
        zip.extend(self.directory_size.unwrap_or(size as u32).to_le_bytes());
        zip.extend(self.directory_start.unwrap_or(start as u32).to_le_bytes());
        zip.extend(len16(&self.comment));
        zip.extend(&self.comment);
        zip.extend(&self.behind);
    }
}

/// From the flags to the length of the extra fields.
fn push(out: &mut Vec<u8>, header: &Header) {
    out.extend(header.flags.to_le_bytes());
    out.extend(header.method.to_le_bytes());
    out.extend([0, 0, 0x21, 0]);
    out.extend(header.crc.to_le_bytes());
    out.extend(header.packed.to_le_bytes());
    out.extend(header.size.to_le_bytes());
    out.extend(len16(&header.name));
    out.extend(len16(&header.extra));
}

fn len16(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).unwrap().to_le_bytes()
}

/// What names begin with in the zip of such a request.
pub(crate) fn prefix(path: &str) -> String {
    match Request::parse(path).unwrap() {
        Request::Zip(module, version) => format!("{module}@{version}/"),
        other => panic!("{other} is no zip"),
    }
}

/// An honest zip for a request, of just that many bytes, that don't compress; whoever tells its
/// bytes apart by their place can do so.
pub(crate) fn zip_of(path: &str, len: usize) -> Bytes {
    let of = |filler: usize| {
        let content: Vec<u8> = (0..filler).map(|n| (n % 251) as u8).collect();
        let go_mod = Item::stored(prefix(path) + "go.mod", b"module a.example/m\n");
        Zip::of([go_mod, Item::stored(prefix(path) + "filler", &content)]).build()
    };
    let frame = of(0).len();
    assert!(len >= frame, "a zip has at least {frame} bytes");
    of(len - frame).into()
}
