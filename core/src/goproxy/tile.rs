//! Coordinates of the checksum database's tiles, as x/mod's `sumdb/tlog` prints them.

use std::{
    fmt::{self, Write},
    str::FromStr,
};

use super::{GrammarError, path::all_digits};

/// Coordinates of a tile of hashes, or of records (`data`), of a transparency log. Printed as
/// `tile/H/L/NNN[.p/W]`, the number in groups of three digits, all but the last led by `x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    height: u8,
    level: Option<u8>,
    number: u64,
    width: u32,
}

impl Tile {
    const MAX_HEIGHT: u8 = 30;
    const MAX_LEVEL: u8 = 63;

    /// A tile of `width` entries, number `number` in its level; level `None` holds the records
    /// themselves. `None` if height isn't 1–30, level not 0–63, width not 1–2^height, or the
    /// number more than a signed 64-bit integer holds.
    pub fn new(height: u8, level: Option<u8>, number: u64, width: u32) -> Option<Self> {
        let valid = (1..=Self::MAX_HEIGHT).contains(&height)
            && level.is_none_or(|l| l <= Self::MAX_LEVEL)
            && i64::try_from(number).is_ok()
            && (1..=1 << height).contains(&width);
        valid.then_some(Self {
            height,
            level,
            number,
            width,
        })
    }

    /// How many levels of the tree the tile spans.
    pub fn height(&self) -> u8 {
        self.height
    }

    /// The level among tiles of this height; `None` for a tile of records.
    pub fn level(&self) -> Option<u8> {
        self.level
    }

    /// The number within the level, from 0.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How many entries the tile has.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Whether it holds records rather than hashes.
    pub fn is_data(&self) -> bool {
        self.level.is_none()
    }

    /// Whether all its entries exist: such a tile never changes.
    pub fn is_full(&self) -> bool {
        self.width == 1 << self.height
    }

    /// The same tile, full: what to ask for once the partial one is gone.
    pub fn full(&self) -> Self {
        Self {
            width: 1 << self.height,
            ..*self
        }
    }
}

/// The path below the database's name, beginning with `tile/`.
impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile/{}/", self.height)?;
        match self.level {
            Some(level) => write!(f, "{level}/")?,
            None => f.write_str("data/")?,
        }
        write_groups(f, self.number / 1000)?;
        write!(f, "{:03}", self.number % 1000)?;
        if !self.is_full() {
            write!(f, ".p/{}", self.width)?;
        }
        Ok(())
    }
}

fn write_groups(f: &mut fmt::Formatter<'_>, number: u64) -> fmt::Result {
    if number == 0 {
        return Ok(());
    }
    write_groups(f, number / 1000)?;
    write!(f, "x{:03}", number % 1000)?;
    f.write_char('/')
}

/// From the printed form; other spellings of the same coordinates are refused.
impl FromStr for Tile {
    type Err = GrammarError;

    fn from_str(path: &str) -> Result<Self, GrammarError> {
        parse(path).ok_or(GrammarError::BadTile)
    }
}

fn parse(path: &str) -> Option<Tile> {
    let rest = path.strip_prefix("tile/")?;
    let (height, rest) = rest.split_once('/')?;
    let (level, rest) = rest.split_once('/')?;
    let (number, width) = match rest.split_once(".p/") {
        Some((number, width)) => (number, Some(width)),
        None => (rest, None),
    };
    let height = u8::try_from(parse_number(height)?).ok()?;
    let level = match level {
        "data" => None,
        level => Some(u8::try_from(parse_number(level)?).ok()?),
    };
    // The height is checked before it shifts anything.
    let full = Tile::new(height, level, parse_groups(number)?, 1)?.full();
    let Some(width) = width else {
        return Some(full);
    };
    let partial = Tile {
        width: u32::try_from(parse_number(width)?).ok()?,
        ..full
    };
    (partial.width > 0 && partial.width < full.width).then_some(partial)
}

/// A decimal number in its only canonical spelling.
fn parse_number(text: &str) -> Option<u64> {
    let canonical = all_digits(text) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

fn parse_groups(text: &str) -> Option<u64> {
    let (leading, last) = match text.rsplit_once('/') {
        Some((leading, last)) => (Some(leading), last),
        None => (None, text),
    };
    // A leading group of zeros would be a second spelling.
    if leading.is_some_and(|l| l.starts_with("x000")) {
        return None;
    }
    let groups = leading
        .into_iter()
        .flat_map(|l| l.split('/'))
        .map(|g| g.strip_prefix('x'));
    groups.chain([Some(last)]).try_fold(0_u64, |number, group| {
        let group = group.filter(|g| g.len() == 3 && all_digits(g))?;
        number.checked_mul(1000)?.checked_add(group.parse().ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_print_as_they_parse() {
        let cases = [
            ("tile/8/0/000", (8, Some(0), 0, 256)),
            ("tile/8/0/001.p/17", (8, Some(0), 1, 17)),
            ("tile/8/data/x001/x234/067", (8, None, 1_234_067, 256)),
            ("tile/3/4/x001/x234/067.p/1", (3, Some(4), 1_234_067, 1)),
            ("tile/1/63/999.p/1", (1, Some(63), 999, 1)),
            ("tile/30/0/x001/000", (30, Some(0), 1000, 1 << 30)),
            (
                "tile/8/1/x009/x223/x372/x036/x854/x775/807",
                (8, Some(1), i64::MAX as u64, 256),
            ),
        ];
        for (path, (height, level, number, width)) in cases {
            let tile = Tile::new(height, level, number, width).expect("valid coordinates");
            assert_eq!(path.parse(), Ok(tile), "{path}");
            assert_eq!(tile.to_string(), path);
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        for path in [
            "",
            "tile",
            "tile/",
            "tile/8",
            "tile/8/0",
            "tile/8/0/",
            "tile/0/0/000",
            "tile/31/0/000",
            "tile/08/0/000",
            "tile/+8/0/000",
            "tile/8/-1/000",
            "tile/8/64/000",
            "tile/8/00/000",
            "tile/8/DATA/000",
            "tile/8/0/0",
            "tile/8/0/0000",
            "tile/8/0/x000",
            "tile/8/0/x000/001",
            "tile/8/0/001/002",
            "tile/8/0/x01/002",
            "tile/8/0/x001/",
            "tile/8/0//001",
            "tile/8/0/xx01/001",
            "tile/8/0/-01",
            "tile/8/0/+01",
            "tile/8/0/000.p",
            "tile/8/0/000.p/",
            "tile/8/0/000.p/0",
            "tile/8/0/000.p/256",
            "tile/8/0/000.p/01",
            "tile/8/0/000.p/+1",
            "tile/8/0/000.p/1/2",
            "tile/8/0/000.p/1.p/1",
            "tile/8/0/x001.p/1/000",
            "tile/8//000",
            "tile/8/0/000/",
            "/tile/8/0/000",
            "tile/8/1/x009/x223/x372/x036/x854/x775/808",
            "tile/8/1/x001/x009/x223/x372/x036/x854/x775/807",
            "tile/256/0/000",
            "tile/8/256/000",
            "tile/8/0/000.p/4294967297",
        ] {
            assert_eq!(path.parse::<Tile>(), Err(GrammarError::BadTile), "{path}");
        }
    }

    #[test]
    fn a_partial_tile_knows_its_full_one() {
        let partial: Tile = "tile/8/0/001.p/17".parse().expect("a tile");
        assert!(!partial.is_full());
        assert!(partial.full().is_full());
        assert_eq!(partial.full().to_string(), "tile/8/0/001");
    }

    #[test]
    fn coordinates_are_bounded() {
        assert_eq!(Tile::new(0, None, 0, 1), None);
        assert_eq!(Tile::new(31, None, 0, 1), None);
        assert_eq!(Tile::new(8, Some(64), 0, 1), None);
        assert_eq!(Tile::new(8, None, 0, 0), None);
        assert_eq!(Tile::new(8, None, 0, 257), None);
        assert_eq!(Tile::new(8, None, 1 << 63, 1), None);
    }
}
