//! The regions an edge of `up` can stand in.

/// A region: the name of its edge, and where on the globe that edge pretends to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Region {
    /// The edge's name.
    pub(crate) name: &'static str,
    /// Degrees north.
    pub(crate) latitude: f64,
    /// Degrees east.
    pub(crate) longitude: f64,
}

const fn region(name: &'static str, latitude: f64, longitude: f64) -> Region {
    Region {
        name,
        latitude,
        longitude,
    }
}

/// All regions known by name.
pub(crate) const REGIONS: &[Region] = &[
    region("eu", 50.11, 8.68),         // Frankfurt
    region("us", 39.04, -77.49),       // Ashburn
    region("ap", 1.35, 103.82),        // Singapore
    region("us-west", 37.34, -121.89), // San José
    region("ca", 45.50, -73.57),       // Montréal
    region("sa", -23.55, -46.63),      // São Paulo
    region("uk", 51.51, -0.13),        // London
    region("eu-north", 59.33, 18.07),  // Stockholm
    region("me", 25.20, 55.27),        // Dubai
    region("af", -26.20, 28.05),       // Johannesburg
    region("in", 19.08, 72.88),        // Mumbai
    region("jp", 35.68, 139.69),       // Tokyo
    region("kr", 37.57, 126.98),       // Seoul
    region("au", -33.87, 151.21),      // Sydney
];

/// Finds regions by name, in the order asked for.
///
/// # Errors
/// No name, an unknown one, or one twice: a text that names the flag.
pub(crate) fn find<S: AsRef<str>>(names: &[S]) -> Result<Vec<Region>, String> {
    let mut found: Vec<Region> = Vec::with_capacity(names.len());
    for name in names {
        let name = name.as_ref().trim();
        let Some(region) = REGIONS.iter().find(|region| region.name == name) else {
            return Err(format!(
                "--regions: there is no region {name:?}; known are {}",
                known()
            ));
        };
        if found.contains(region) {
            return Err(format!("--regions: {name} is there twice"));
        }
        found.push(*region);
    }
    if found.is_empty() {
        return Err("--regions: at least one is needed".to_owned());
    }
    Ok(found)
}

fn known() -> String {
    let names: Vec<_> = REGIONS.iter().map(|region| region.name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_found_in_the_order_asked_for() {
        let found = find(&["ap", " eu"]).unwrap();
        assert_eq!([found[0].name, found[1].name], ["ap", "eu"]);
        assert!(found[0].longitude > 100.0);
    }

    #[test]
    fn an_unknown_region_is_named_with_the_known_ones() {
        let error = find(&["eu", "mars"]).unwrap_err();
        assert!(
            error.contains("\"mars\"") && error.contains("eu, us, ap"),
            "{error}"
        );
    }

    #[test]
    fn a_region_twice_or_none_at_all_is_refused() {
        assert!(find(&["eu", "eu"]).unwrap_err().contains("twice"));
        assert!(find::<&str>(&[]).is_err());
        assert!(find(&[""]).is_err());
    }

    #[test]
    fn every_region_is_on_the_globe_once() {
        for (n, region) in REGIONS.iter().enumerate() {
            assert!(region.latitude.abs() < 90.0 && region.longitude.abs() < 180.0);
            assert!(
                REGIONS[n + 1..]
                    .iter()
                    .all(|other| other.name != region.name)
            );
            // These are the other nodes' names, and folders are named after nodes.
            assert!(region.name != "origin" && region.name != "dns");
        }
    }
}
