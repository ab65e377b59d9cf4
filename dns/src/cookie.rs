//! DNS cookies (RFC 7873), with the server cookies that servers of one name make alike (RFC 9018): an
//! asker whose cookie is valid really has the address it asks from.
//!
//! Pure: the time is handed in. A server cookie is a SipHash-2-4 over what the asker sent, the time
//! and its address, so nothing is kept for anybody. Cookies of the second secret are still valid but
//! no longer made: that is how a secret is replaced on several nodes without a moment of refusals.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The option's code (RFC 7873 §4).
pub const OPTION_CODE: u16 = 10;

/// A client cookie's length in bytes.
const CLIENT: usize = 8;

/// A server cookie's length in bytes (RFC 9018 §4); others of 8 to 32 bytes are well-formed.
const SERVER: usize = 16;

/// Version of the server cookie's layout (RFC 9018 §4.1).
const VERSION: u8 = 1;

/// A cookie is valid for this long, in seconds (RFC 9018 §4.3).
const LIFETIME: i32 = 3600;

/// And from this long before its time, for clocks that differ.
const FUTURE: i32 = 300;

/// A cookie older than this is answered with a new one.
const RENEWAL: i32 = 1800;

/// A cookie as a query carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    client: [u8; CLIENT],
    server: Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    /// None: the asker has not met us.
    Absent,
    /// One of our length.
    Given([u8; SERVER]),
    /// One of another length: another server's.
    Foreign,
}

/// A cookie option of a length that can't be (RFC 7873 §5.2.2): FORMERR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cookie has 8, or 16 to 40 bytes")]
pub struct CookieError;

/// What a cookie is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// None was sent.
    Absent,
    /// The asker's alone: it wants to learn ours.
    New,
    /// Ours, of this address and not too old.
    Valid,
    /// Not ours, of another address, or too old.
    Invalid,
}

impl Standing {
    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::New => "new",
            Self::Valid => "valid",
            Self::Invalid => "invalid",
        }
    }
}

impl Cookie {
    /// Reads the option's data.
    ///
    /// # Errors
    /// Its length is none that a cookie can have.
    pub fn parse(data: &[u8]) -> Result<Self, CookieError> {
        let (client, server) = data.split_first_chunk().ok_or(CookieError)?;
        let server = match server.len() {
            0 => Server::Absent,
            SERVER => Server::Given(server.try_into().map_err(|_| CookieError)?),
            8..=32 => Server::Foreign,
            _ => return Err(CookieError),
        };
        Ok(Self {
            client: *client,
            server,
        })
    }
}

/// The key of server cookies.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 16]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why there are no secrets.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file can't be read.
    #[error("cookie secrets {}: {error}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It holds something else.
    #[error(
        "cookie secrets {}: one or two lines of 32 hexadecimal digits are expected (openssl rand -hex 16)",
        .0.display()
    )]
    Wrong(PathBuf),
}

/// Makes and judges server cookies.
#[derive(Clone, Debug)]
pub struct Jar {
    current: Secret,
    previous: Option<Secret>,
}

impl Jar {
    /// With a secret of this process's own, which no other node knows.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn random() -> Result<Self, SecretError> {
        let path = Path::new("/dev/urandom");
        let mut secret = [0; 16];
        let read = File::open(path).and_then(|mut file| file.read_exact(&mut secret));
        read.map_err(|error| SecretError::Read {
            path: path.to_owned(),
            error,
        })?;
        Ok(Self::new(secret, None))
    }

    /// With the secrets of a file: the one in use, and on a second line one whose cookies are still
    /// taken. Blank lines and lines that begin with `#` don't count.
    ///
    /// # Errors
    /// The file can't be read or holds something else; what it holds is never told.
    pub fn open(path: &Path) -> Result<Self, SecretError> {
        let text = std::fs::read_to_string(path).map_err(|error| SecretError::Read {
            path: path.to_owned(),
            error,
        })?;
        Self::parse(&text).ok_or_else(|| SecretError::Wrong(path.to_owned()))
    }

    fn parse(text: &str) -> Option<Self> {
        let lines = text.lines().map(str::trim);
        let mut secrets = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let current = unhex(secrets.next()?)?;
        let previous = match secrets.next() {
            Some(line) => Some(unhex(line)?),
            None => None,
        };
        secrets
            .next()
            .is_none()
            .then(|| Self::new(current, previous))
    }

    /// With these secrets: the one in use, and one whose cookies are still taken.
    #[must_use]
    pub fn new(current: [u8; 16], previous: Option<[u8; 16]>) -> Self {
        Self {
            current: Secret(current),
            previous: previous.map(Secret),
        }
    }

    /// What a cookie from an address is worth at a time, in seconds since 1970.
    #[must_use]
    pub fn judge(&self, cookie: &Cookie, from: IpAddr, now: u32) -> Standing {
        let server = match cookie.server {
            Server::Absent => return Standing::New,
            Server::Foreign => return Standing::Invalid,
            Server::Given(server) => server,
        };
        let age = age(&server, now);
        let in_time = (-FUTURE..=LIFETIME).contains(&age);
        let mut secrets = std::iter::once(&self.current).chain(&self.previous);
        let ours = server[0] == VERSION
            && secrets.any(|secret| {
                let hash = hash(secret, &cookie.client, &server[..8], from);
                // Every byte is looked at, so that the time taken tells nothing.
                hash.iter()
                    .zip(&server[8..])
                    .fold(0, |all, (a, b)| all | (a ^ b))
                    == 0
            });
        if ours && in_time {
            Standing::Valid
        } else {
            Standing::Invalid
        }
    }

    /// The option's data for the answer: the asker's cookie, and ours: the one that came, if it is
    /// valid, of the secret in use and not yet old.
    #[must_use]
    pub fn answer(&self, cookie: &Cookie, from: IpAddr, now: u32) -> [u8; CLIENT + SERVER] {
        let mut data = [0; CLIENT + SERVER];
        data[..CLIENT].copy_from_slice(&cookie.client);
        data[CLIENT..].copy_from_slice(&self.server(cookie, from, now));
        data
    }

    fn server(&self, cookie: &Cookie, from: IpAddr, now: u32) -> [u8; SERVER] {
        if let Server::Given(server) = cookie.server {
            let young = (0..=RENEWAL).contains(&age(&server, now));
            let hash = hash(&self.current, &cookie.client, &server[..8], from);
            if young && server[0] == VERSION && hash == server[8..] {
                return server;
            }
        }
        let mut server = [0; SERVER];
        server[0] = VERSION;
        server[4..8].copy_from_slice(&now.to_be_bytes());
        let hash = hash(&self.current, &cookie.client, &server[..8], from);
        server[8..].copy_from_slice(&hash);
        server
    }
}

/// Seconds since a cookie was made, by serial number arithmetic (RFC 9018 §4.3).
fn age(server: &[u8; SERVER], now: u32) -> i32 {
    let made = u32::from_be_bytes([server[4], server[5], server[6], server[7]]);
    now.wrapping_sub(made).cast_signed()
}

fn hash(secret: &Secret, client: &[u8; CLIENT], head: &[u8], from: IpAddr) -> [u8; 8] {
    let mut input = [0; CLIENT + 8 + 16];
    input[..CLIENT].copy_from_slice(client);
    input[CLIENT..CLIENT + 8].copy_from_slice(head);
    let length = match from.to_canonical() {
        IpAddr::V4(v4) => {
            input[16..20].copy_from_slice(&v4.octets());
            20
        }
        IpAddr::V6(v6) => {
            input[16..].copy_from_slice(&v6.octets());
            32
        }
    };
    siphash(&secret.0, &input[..length]).to_le_bytes()
}

fn unhex(line: &str) -> Option<[u8; 16]> {
    let hexadecimal = line.len() == 32 && line.bytes().all(|b| b.is_ascii_hexdigit());
    let number = u128::from_str_radix(line, 16).ok()?;
    hexadecimal.then(|| number.to_be_bytes())
}

/// SipHash-2-4 (Aumasson and Bernstein, 2012). The standard library's is deprecated, and its default
/// hasher promises no algorithm.
fn siphash(key: &[u8; 16], input: &[u8]) -> u64 {
    let word = |bytes: &[u8]| {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    };
    let (k0, k1) = (word(&key[..8]), word(&key[8..]));
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let mut absorb = |m: u64| {
        v[3] ^= m;
        rounds(&mut v, 2);
        v[0] ^= m;
    };
    let (words, rest) = input.as_chunks::<8>();
    words.iter().for_each(|m| absorb(u64::from_le_bytes(*m)));
    // The last word ends in the length's lowest byte.
    absorb(word(rest) | (input.len() as u64) << 56);
    v[2] ^= 0xff;
    rounds(&mut v, 4);
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn rounds(v: &mut [u64; 4], count: usize) {
    for _ in 0..count {
        v[0] = v[0].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[2] = v[2].rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let pairs = hex.as_bytes().chunks(2);
        pairs
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn jar(lines: &str) -> Jar {
        Jar::parse(lines).unwrap()
    }

    const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";

    /// RFC 9018, appendix A: what comes, from where, when, its standing, what is answered.
    #[test]
    fn the_rfcs_examples_come_out_as_in_the_rfc() {
        let rollover = "445536bcd2513298075a5d379663c962\ndd3bdf9344b678b185a6f5cb60fca715\n";
        for (secrets, sent, from, now, standing, answer) in [
            (
                SECRET,
                "2464c4abcf10c957",
                "198.51.100.100",
                1_559_731_985,
                Standing::New,
                "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
            ),
            (
                SECRET,
                "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
                "198.51.100.100",
                1_559_734_385,
                Standing::Valid,
                "2464c4abcf10c957010000005cf7a871d4a564a1442aca77",
            ),
            (
                SECRET,
                "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5",
                "203.0.113.203",
                1_559_727_985,
                Standing::Valid,
                "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5",
            ),
            (
                SECRET,
                "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5",
                "203.0.113.203",
                1_559_734_700,
                Standing::Invalid,
                "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e",
            ),
            (
                rollover,
                "22681ab97d52c298010000005cf7c57926556bd0934c72f8",
                "2001:db8:220:1:59de:d0f4:8769:82b8",
                1_559_741_961,
                Standing::Valid,
                "22681ab97d52c298010000005cf7c609a6bb79d16625507a",
            ),
        ] {
            let (jar, from) = (jar(secrets), from.parse().unwrap());
            let cookie = Cookie::parse(&bytes(sent)).unwrap();
            assert_eq!(jar.judge(&cookie, from, now), standing, "{sent}");
            assert_eq!(jar.answer(&cookie, from, now)[..], bytes(answer), "{sent}");
        }
    }

    #[test]
    fn a_cookie_is_of_one_address_one_asker_and_one_hour() {
        let jar = jar(SECRET);
        let from: IpAddr = "198.51.100.100".parse().unwrap();
        let made = 1_559_731_985_u32;
        let good = bytes("2464c4abcf10c957010000005cf79f111f8130c3eee29480");
        let judge = |data: &[u8], from: IpAddr, now: u32| {
            jar.judge(&Cookie::parse(data).unwrap(), from, now)
        };
        for (now, standing) in [
            (made - 301, Standing::Invalid),
            (made - 300, Standing::Valid),
            (made + 3600, Standing::Valid),
            (made + 3601, Standing::Invalid),
            (made.wrapping_add(1 << 31), Standing::Invalid),
        ] {
            assert_eq!(judge(&good, from, now), standing, "{now}");
        }
        let mapped: IpAddr = "::ffff:198.51.100.100".parse().unwrap();
        assert_eq!(judge(&good, mapped, made), Standing::Valid);
        let other: IpAddr = "198.51.100.101".parse().unwrap();
        assert_eq!(judge(&good, other, made), Standing::Invalid);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(judge(&bad, from, made), Standing::Invalid, "byte {at}");
        }
    }

    #[test]
    fn a_replaced_secret_is_taken_as_the_second_and_not_after() {
        let from: IpAddr = "192.0.2.1".parse().unwrap();
        let (old, new) = (SECRET, "00112233445566778899aabbccddeeff");
        let cookie = Cookie::parse(&[7; 8]).unwrap();
        let made = jar(old).answer(&cookie, from, 1000);
        let cookie = Cookie::parse(&made).unwrap();
        let both = jar(&format!("# rolled over\n{new}\n\n {old}\n"));
        assert_eq!(both.judge(&cookie, from, 1001), Standing::Valid);
        let renewed = both.answer(&cookie, from, 1001);
        assert_ne!(renewed, made);
        let renewed = Cookie::parse(&renewed).unwrap();
        assert_eq!(jar(new).judge(&renewed, from, 1001), Standing::Valid);
        assert_eq!(jar(new).judge(&cookie, from, 1001), Standing::Invalid);
    }

    #[test]
    fn lengths_that_no_cookie_has_are_refused() {
        for length in 0..50 {
            let good = length == 8 || (16..=40).contains(&length);
            assert_eq!(Cookie::parse(&vec![1; length]).is_ok(), good, "{length}");
        }
        let foreign = Cookie::parse(&[1; 16]).unwrap();
        let from = "192.0.2.1".parse().unwrap();
        assert_eq!(jar(SECRET).judge(&foreign, from, 0), Standing::Invalid);
    }

    #[test]
    fn a_file_that_holds_no_secrets_is_refused_without_telling_what_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cookies");
        for text in [
            "",
            "# none",
            "abc",
            &SECRET[1..],
            "+5e973e5a6b2a43f48e7dc849e37bfcf",
            &[SECRET; 3].join("\n"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Jar::open(&path).unwrap_err().to_string();
            assert!(error.contains("32 hexadecimal digits"), "{error}");
            assert!(!error.contains("973e5"), "{error}");
        }
        std::fs::write(&path, SECRET).unwrap();
        let jar = Jar::open(&path).unwrap();
        assert!(!format!("{jar:?}").contains("22"), "{jar:?}");
        assert!(Jar::open(&dir.path().join("none")).is_err());
        assert!(Jar::random().is_ok());
    }

    proptest! {
        #[test]
        fn what_we_make_is_valid_for_who_got_it(
            secret in any::<[u8; 16]>(), client in any::<[u8; 8]>(), from in any::<u128>(),
            now in any::<u32>(), later in 0u32..3600,
        ) {
            let jar = Jar::new(secret, None);
            let from = IpAddr::V6(from.into());
            let made = jar.answer(&Cookie::parse(&client).unwrap(), from, now);
            let cookie = Cookie::parse(&made).unwrap();
            prop_assert_eq!(jar.judge(&cookie, from, now.wrapping_add(later)), Standing::Valid);
        }
    }
}
