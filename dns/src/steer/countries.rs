//! A point for each country, for databases that know no more than that.
//!
//! Degrees, rounded to whole ones and chosen where most people live rather than in the middle of
//! the land: a PoP is wanted near them.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::{Continent, Point};

/// ISO 3166-1 alpha-2 code, latitude, longitude.
const CENTRES: &str = "
AD 43 2 AE 25 55 AF 35 69 AG 17 -62 AI 18 -63 AL 41 20 AM 40 45 AO -9 14 AQ -78 167 AR -34 -60
AS -14 -171 AT 48 16 AU -34 148 AW 13 -70 AX 60 20 AZ 40 49 BA 44 18 BB 13 -60 BD 24 90 BE 51 4
BF 12 -2 BG 43 24 BH 26 51 BI -3 30 BJ 7 2 BL 18 -63 BM 32 -65 BN 5 115 BO -17 -66 BQ 12 -68
BR -21 -46 BS 25 -77 BT 27 90 BV -54 3 BW -24 26 BY 54 28 BZ 17 -88 CA 45 -77 CC -12 97 CD -4 20
CF 5 19 CG -4 15 CH 47 8 CI 6 -5 CK -21 -160 CL -33 -71 CM 4 11 CN 32 115 CO 5 -74 CR 10 -84
CU 22 -80 CV 15 -24 CW 12 -69 CX -10 106 CY 35 33 CZ 50 15 DE 51 9 DJ 12 43 DK 56 11 DM 15 -61
DO 19 -70 DZ 36 4 EC -1 -79 EE 59 26 EG 30 31 EH 25 -14 ER 15 39 ES 40 -3 ET 9 39 FI 61 25
FJ -18 178 FK -52 -58 FM 7 158 FO 62 -7 FR 48 3 GA 0 10 GB 52 -1 GD 12 -62 GE 42 44 GF 5 -53
GG 49 -3 GH 6 -1 GI 36 -5 GL 64 -51 GM 13 -16 GN 10 -12 GP 16 -62 GQ 3 10 GR 38 24 GS -54 -37
GT 15 -91 GU 13 145 GW 12 -15 GY 7 -58 HK 22 114 HM -53 73 HN 15 -87 HR 45 16 HT 19 -72 HU 47 19
ID -6 109 IE 53 -7 IL 32 35 IM 54 -5 IN 21 79 IO -7 72 IQ 33 44 IR 35 51 IS 64 -22 IT 43 12
JE 49 -2 JM 18 -77 JO 32 36 JP 36 138 KE -1 37 KG 43 75 KH 12 105 KI 1 173 KM -12 43 KN 17 -63
KP 39 126 KR 37 127 KW 29 48 KY 19 -81 KZ 46 74 LA 18 103 LB 34 36 LC 14 -61 LI 47 10 LK 7 80
LR 6 -11 LS -29 28 LT 55 24 LU 50 6 LV 57 24 LY 33 14 MA 34 -7 MC 44 7 MD 47 29 ME 42 19
MF 18 -63 MG -19 47 MH 7 171 MK 42 21 ML 13 -8 MM 18 96 MN 48 107 MO 22 114 MP 15 146 MQ 15 -61
MR 18 -16 MS 17 -62 MT 36 14 MU -20 58 MV 4 74 MW -15 34 MX 20 -100 MY 3 102 MZ -20 35 NA -22 17
NC -22 166 NE 14 4 NF -29 168 NG 8 6 NI 12 -86 NL 52 5 NO 60 10 NP 28 85 NR -1 167 NU -19 -170
NZ -38 175 OM 23 58 PA 9 -80 PE -11 -77 PF -18 -150 PG -7 146 PH 14 121 PK 31 72 PL 52 20
PM 47 -56 PN -25 -130 PR 18 -66 PS 32 35 PT 40 -9 PW 7 134 PY -25 -57 QA 25 51 RE -21 55
RO 45 26 RS 45 21 RU 55 42 RW -2 30 SA 25 45 SB -9 160 SC -5 55 SD 15 32 SE 59 16 SG 1 104
SH -16 -6 SI 46 15 SJ 78 16 SK 48 18 SL 8 -12 SM 44 12 SN 15 -17 SO 3 45 SR 6 -55 SS 6 31
ST 0 7 SV 14 -89 SX 18 -63 SY 34 37 SZ -26 31 TC 22 -72 TD 11 16 TF -49 70 TG 7 1 TH 14 101
TJ 38 69 TK -9 -172 TL -9 126 TM 38 58 TN 36 10 TO -21 -175 TR 40 31 TT 11 -61 TV -9 179
TW 25 121 TZ -6 36 UA 49 31 UG 1 32 UM 19 167 US 39 -88 UY -35 -56 UZ 41 68 VA 42 12 VC 13 -61
VE 10 -67 VG 18 -65 VI 18 -65 VN 16 106 VU -17 168 WF -13 -176 WS -14 -172 XK 43 21 YE 15 44
YT -13 45 ZA -28 28 ZM -14 28 ZW -18 30
";

/// Which countries lie on which continent; what stands nowhere here lies in none.
const CONTINENTS: [(Continent, &str); 7] = [
    (
        Continent::Africa,
        "AO BF BI BJ BW CD CF CG CI CM CV DJ DZ EG EH ER ET GA GH GM GN GQ GW KE KM LR LS LY MA MG
         ML MR MU MW MZ NA NE NG RE RW SC SD SH SL SN SO SS ST SZ TD TG TN TZ UG YT ZA ZM ZW",
    ),
    (Continent::Antarctica, "AQ BV GS HM TF"),
    (
        Continent::Asia,
        "AE AF AM AZ BD BH BN BT CC CN CX GE HK ID IL IN IO IQ IR JO JP KG KH KP KR KW KZ LA LB LK
         MM MN MO MV MY NP OM PH PK PS QA SA SG SY TH TJ TL TM TR TW UZ VN YE",
    ),
    (
        Continent::Europe,
        "AD AL AT AX BA BE BG BY CH CY CZ DE DK EE ES FI FO FR GB GG GI GR HR HU IE IM IS IT JE LI
         LT LU LV MC MD ME MK MT NL NO PL PT RO RS RU SE SI SJ SK SM UA VA XK",
    ),
    (
        Continent::NorthAmerica,
        "AG AI AW BB BL BM BQ BS BZ CA CR CU CW DM DO GD GL GP GT HN HT JM KN KY LC MF MQ MS MX NI
         PA PM PR SV SX TC TT US VC VG VI",
    ),
    (
        Continent::Oceania,
        "AS AU CK FJ FM GU KI MH MP NC NF NR NU NZ PF PG PN PW SB TK TO TV UM VU WF WS",
    ),
    (
        Continent::SouthAmerica,
        "AR BO BR CL CO EC FK GF GY PE PY SR UY VE",
    ),
];

/// The continent of a country, by its upper-case code.
pub(super) fn continent(code: [u8; 2]) -> Option<Continent> {
    let holds = |list: &str| {
        let mut codes = list.split_ascii_whitespace();
        codes.any(|other| other.as_bytes() == code)
    };
    let mut continents = CONTINENTS.iter();
    continents.find(|(_, list)| holds(list)).map(|(c, _)| *c)
}

/// The point of a country, by its upper-case code.
pub(super) fn centre(code: [u8; 2]) -> Option<Point> {
    static TABLE: OnceLock<HashMap<[u8; 2], Point>> = OnceLock::new();
    TABLE
        .get_or_init(|| entries().collect())
        .get(&code)
        .copied()
}

fn entries() -> impl Iterator<Item = ([u8; 2], Point)> {
    let mut words = CENTRES.split_ascii_whitespace();
    std::iter::from_fn(move || {
        let code = words.next()?.as_bytes().try_into().ok()?;
        let latitude = words.next()?.parse().ok()?;
        let longitude = words.next()?.parse().ok()?;
        let point = Point {
            latitude,
            longitude,
        };
        Some((code, point))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_of_the_table_is_read_and_unique() {
        let words = CENTRES.split_ascii_whitespace().count();
        let table: HashMap<_, _> = entries().collect();
        assert_eq!(words % 3, 0);
        assert_eq!(table.len(), words / 3);
        assert_eq!(table.len(), 250, "ISO 3166-1 has 249, and Kosovo");
        for (code, point) in table {
            assert!(code.iter().all(u8::is_ascii_uppercase));
            assert!(point.latitude.abs() <= 90.0 && point.longitude.abs() <= 180.0);
        }
    }

    #[test]
    fn every_country_lies_on_one_continent() {
        let mut listed: Vec<_> = CONTINENTS
            .iter()
            .flat_map(|(_, list)| list.split_ascii_whitespace())
            .collect();
        listed.sort_unstable();
        let mut known: Vec<_> = entries().map(|(code, _)| code).collect();
        known.sort_unstable();
        let listed: Vec<_> = listed.iter().map(|code| code.as_bytes()).collect();
        assert_eq!(listed, known.iter().map(|c| &c[..]).collect::<Vec<_>>());
    }

    #[test]
    fn points_lie_about_where_countries_do() {
        let near = |code: &[u8; 2], latitude: f64, longitude: f64| {
            let point = Point {
                latitude,
                longitude,
            };
            centre(*code).unwrap().km_to(point) < 1500.0
        };
        assert!(near(b"DE", 52.5, 13.4) && near(b"JP", 35.7, 139.7) && near(b"US", 40.7, -74.0));
        assert!(near(b"AU", -33.9, 151.2) && near(b"BR", -23.5, -46.6));
        assert_eq!(centre(*b"ZZ"), None);
    }
}
