//! What a round trip is expected to take from the distance alone: `a + b·km`, a line for each PoP,
//! fitted from the samples so that no few of them can bend it.
//!
//! Samples are sorted by distance and cut into up to [`BINS`] bins of equal count; the slope is the
//! median of the slopes between the bins' medians (Theil and Sen), the base the median of what is
//! left. Few samples are drawn towards the line of all PoPs, and that towards the configured one.

use super::constants::Constants;

/// Bins of a fit.
const BINS: usize = 16;

/// Samples that the line one falls back to is worth.
const DRAW: f64 = 8.0;

/// The slopes that are believed, in milliseconds a kilometre: light in fibre takes 0.0098 there
/// and back, and nobody is led around the earth four times.
const SLOPES: (f64, f64) = (0.01, 0.06);

/// The bases that are believed, in milliseconds.
const BASES: (f64, f64) = (0.0, 200.0);

/// An expected round trip in milliseconds by distance in kilometres.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) base: f64,
    pub(super) slope: f64,
}

impl Line {
    pub(super) fn at(self, km: f64) -> f64 {
        self.base + self.slope * km
    }
}

/// A measured round trip: kilometres and milliseconds.
pub(super) type Spot = (f64, f64);

/// A line for each PoP from the spots of each.
pub(super) fn lines(spots: &mut [Vec<Spot>], constants: &Constants) -> Vec<Line> {
    let configured = Line {
        base: constants.base_ms,
        slope: constants.ms_per_km,
    };
    let mut all: Vec<Spot> = spots.iter().flatten().copied().collect();
    let common = fit(&mut all, configured);
    spots.iter_mut().map(|own| fit(own, common)).collect()
}

fn fit(spots: &mut [Spot], fallback: Line) -> Line {
    if spots.is_empty() {
        return fallback;
    }
    spots.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let pull = |fitted: f64, fallback: f64| {
        let n = spots.len() as f64;
        (n * fitted + DRAW * fallback) / (n + DRAW)
    };
    let slope = pull(slope(spots).unwrap_or(fallback.slope), fallback.slope);
    let slope = slope.clamp(SLOPES.0, SLOPES.1);
    let mut left: Vec<f64> = spots.iter().map(|(km, ms)| ms - slope * km).collect();
    let base = pull(median(&mut left), fallback.base).clamp(BASES.0, BASES.1);
    Line { base, slope }
}

fn slope(sorted: &[Spot]) -> Option<f64> {
    let bins = BINS.min(sorted.len() / 2).max(1);
    let medians: Vec<Spot> = sorted
        .chunks(sorted.len().div_ceil(bins))
        .map(|bin| {
            let mut ms: Vec<f64> = bin.iter().map(|spot| spot.1).collect();
            (bin[bin.len() / 2].0, median(&mut ms))
        })
        .collect();
    let mut slopes = Vec::new();
    for (index, near) in medians.iter().enumerate() {
        let far = medians[index + 1..]
            .iter()
            .filter(|far| far.0 - near.0 > 1.0);
        slopes.extend(far.map(|far| (far.1 - near.1) / (far.0 - near.0)));
    }
    (!slopes.is_empty()).then(|| median(&mut slopes))
}

/// The upper median of a list that isn't empty.
fn median(values: &mut [f64]) -> f64 {
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line_of(spots: Vec<Spot>) -> Line {
        lines(&mut [spots], &Constants::default())[0]
    }

    #[test]
    fn without_samples_the_line_is_the_configured_one() {
        let constants = Constants::default();
        let line = line_of(vec![]);
        assert_eq!(
            (line.base, line.slope),
            (constants.base_ms, constants.ms_per_km)
        );
    }

    #[test]
    fn a_line_is_found_though_a_third_of_the_samples_is_wrong() {
        let spots = (0..3000).map(|n| {
            let km = f64::from(n) * 4.0;
            let wrong = if n % 3 == 0 { 300.0 } else { 0.0 };
            (km, 12.0 + 0.02 * km + f64::from(n % 5) + wrong)
        });
        let line = line_of(spots.collect());
        assert!((line.slope - 0.02).abs() < 0.002, "{line:?}");
        assert!((line.base - 14.0).abs() < 4.0, "{line:?}");
    }

    #[test]
    fn no_line_is_faster_than_light_or_absurd() {
        for spots in [
            vec![(0.0, 500.0), (9000.0, 1.0), (100.0, 400.0), (8000.0, 2.0)],
            (0..100)
                .map(|n| (f64::from(n), f64::from(n) * 90.0))
                .collect(),
            vec![(5.0, 9999.0)],
        ] {
            let line = line_of(spots);
            assert!((SLOPES.0..=SLOPES.1).contains(&line.slope), "{line:?}");
            assert!((BASES.0..=BASES.1).contains(&line.base), "{line:?}");
        }
    }
}
