//! Every way in which an archive can be wrong.

use std::io;

use modcdn_core::goproxy::GrammarError;

/// How much of a name that came from outside is shown.
const SHOWN: usize = 100;

macro_rules! faults {
    ($($(#[$doc:meta])* $variant:ident $(($($field:ty),+))? = $name:literal, $text:literal;)*) => {
        /// Why an archive is refused. The text follows "the zip", and speaks to a person.
        #[derive(Debug, thiserror::Error)]
        #[non_exhaustive]
        pub enum Fault {
            $($(#[$doc])* #[error($text)] $variant $(($($field),+))?,)*
            /// The archive itself can't be read or written: our disk's fault, not the archive's.
            #[error("can't be read or written: {0}")]
            Io(#[from] io::Error),
        }

        impl Fault {
            /// Every name there is, for metrics.
            pub const NAMES: &[&str] = &[$($name,)* "io"];

            /// The stable name: in metrics, logs and reason files.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self {
                    $(faults!(@pattern $variant $(($($field),+))?) => $name,)*
                    Self::Io(_) => "io",
                }
            }
        }
    };
    (@pattern $variant:ident) => { Self::$variant };
    (@pattern $variant:ident ($($field:ty),+)) => { Self::$variant(..) };
}

faults! {
    // The archive's frame.
    /// No record at the end says where the directory is, or what it says makes no sense.
    NotAnArchive = "not-an-archive", "is no zip archive, or not all of one";
    /// Bytes that belong to no entry: in front, between, behind.
    Junk(u64) = "junk", "has bytes at {0} that belong to no file";
    /// An entry reaches into the next one, or into the directory.
    Overlap(String) = "overlap", "has entries that overlap: {0}";
    /// The header before an entry's data says something else than the directory.
    HeadersDiffer(String) = "headers-differ",
        "says two different things about {0}: before its data and in its directory";
    /// A zip64 field where none is needed and that doesn't agree, or none where one is.
    Zip64(String) = "zip64", "has a zip64 record that readers understand differently: {0}";
    /// More entries than are taken.
    TooManyFiles(usize) = "too-many-files", "has more than {0} files and folders";
    /// A directory larger than is read.
    DirectoryTooLarge(u64) = "directory-too-large", "has a directory of more than {0} bytes";

    // One entry's data.
    /// An encrypted entry, or one that is a patch of another file.
    Encrypted(String) = "encrypted", "has a file that is encrypted or a patch: {0}";
    /// A compression method other than stored and deflate.
    Method(String, u16) = "method", "has a file compressed by method {1}, which isn't deflate: {0}";
    /// A link, a device, a pipe.
    Irregular(String) = "irregular", "has something that is no regular file: {0}";
    /// Data that isn't what deflate makes, or ends too early or too late.
    Data(String) = "data", "has a file whose compressed data is damaged: {0}";
    /// More or less content than declared.
    Size(String, u64) = "size", "has a file that isn't as long as declared ({1} bytes): {0}";
    /// Content with another checksum than declared.
    Crc(String) = "crc", "has a file whose checksum is wrong: {0}";

    // The rules of module zips.
    /// The version can't be one of the module's.
    Version = "version", "is of a version that its module can't have";
    /// The archive is too large.
    TooLarge(u64) = "too-large", "is larger than {0} bytes";
    /// What is in it is too large.
    UnpackedTooLarge(u64) = "unpacked-too-large", "unpacks to more than {0} bytes";
    /// A go.mod or LICENSE is too large.
    FileTooLarge(String, u64) = "file-too-large", "has a {0} of more than {1} bytes";
    /// An entry outside `module@version/`.
    Prefix(String) = "prefix", "has a file outside its module's folder: {0}";
    /// A name that module zips can't have.
    FileName(String, GrammarError) = "file-name", "has a bad file name: {0}: {1}";
    /// Two names that are one where case doesn't count, or a file that is a folder too.
    Collision(String, String) = "collision", "has names that some systems can't keep apart: {0} and {1}";
    /// A go.mod in a folder.
    NestedModule(String) = "nested-module", "has a second module in it: {0}";
    /// A go.mod in another case.
    GoModCase(String) = "go-mod-case", "has a go.mod that isn't written in lower case: {0}";

    // Making one.
    /// What was to be put in could not be read, or was not as long as said.
    Source(String, String) = "source", "can't be made: {0}: {1}";
}

impl Fault {
    /// Whether the archive is bad, rather than our disk.
    #[must_use]
    pub const fn is_content(&self) -> bool {
        !matches!(self, Self::Io(_) | Self::Source(..))
    }
}

/// A name as it can be shown: no control characters, not too long.
pub(super) fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let mut shown: String = text
        .chars()
        .take(SHOWN)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_distinct() {
        let names: HashSet<_> = Fault::NAMES.iter().collect();
        assert_eq!(names.len(), Fault::NAMES.len());
        assert!(Fault::NAMES.contains(&Fault::Crc(String::new()).name()));
    }

    #[test]
    fn a_hostile_name_is_shown_short_and_on_one_line() {
        let text = Fault::Prefix(shown(&[b'\n'; 70_000])).to_string();
        assert!(text.len() < 500 && !text.contains('\n'), "{text}");
        assert_eq!(shown("Übung.go".as_bytes()), "Übung.go");
    }
}
