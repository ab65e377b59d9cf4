//! The cities of the world that the evaluation is about: where they are, and how many live there.
//!
//! Facts of geography, rounded: degrees to a tenth, metropolitan populations to a hundred thousand.
//! Which region a city's cables lead through is a judgement; it decides about detours only.

use modcdn_dns::steer::Point;

/// Where cables go much the same ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Region {
    NorthAmerica,
    LatinAmerica,
    Europe,
    Africa,
    MiddleEast,
    SouthAsia,
    EastAsia,
    SoutheastAsia,
    Oceania,
}

/// A city.
#[derive(Clone, Debug)]
pub(crate) struct City {
    pub(crate) name: &'static str,
    /// ISO 3166-1 alpha-2.
    pub(crate) country: [u8; 2],
    pub(crate) region: Region,
    pub(crate) at: Point,
    /// Inhabitants in millions.
    pub(crate) millions: f64,
    /// On an island or a far coast, behind one cable or two.
    pub(crate) remote: bool,
}

/// Country, region, latitude, longitude, millions, name; `*` before the name: remote.
const TABLE: &str = "
US NA 40.7 -74.0 19.5 New York
US NA 34.1 -118.2 12.9 Los Angeles
US NA 41.9 -87.6 9.3 Chicago
US NA 32.8 -96.8 8.1 Dallas
US NA 29.8 -95.4 7.5 Houston
US NA 38.9 -77.0 6.3 Washington
US NA 40.0 -75.2 6.2 Philadelphia
US NA 33.7 -84.4 6.3 Atlanta
US NA 25.8 -80.2 6.2 Miami
US NA 33.4 -112.1 5.1 Phoenix
US NA 42.4 -71.1 4.9 Boston
US NA 37.8 -122.4 4.6 San Francisco
US NA 37.3 -121.9 2.0 San Jose
US NA 42.3 -83.0 4.3 Detroit
US NA 47.6 -122.3 4.0 Seattle
US NA 45.0 -93.3 3.7 Minneapolis
US NA 32.7 -117.2 3.3 San Diego
US NA 27.9 -82.5 3.3 Tampa
US NA 39.7 -105.0 3.0 Denver
US NA 38.6 -90.2 2.8 St. Louis
US NA 35.2 -80.8 2.8 Charlotte
US NA 28.5 -81.4 2.8 Orlando
US NA 30.3 -97.7 2.5 Austin
US NA 45.5 -122.7 2.5 Portland
US NA 36.2 -115.1 2.3 Las Vegas
US NA 39.1 -94.6 2.2 Kansas City
US NA 40.8 -111.9 1.3 Salt Lake City
US NA 36.2 -86.8 2.1 Nashville
US NA 35.8 -78.6 1.5 Raleigh
US NA 30.0 -90.1 1.0 New Orleans
US NA 21.3 -157.9 1.0 *Honolulu
US NA 61.2 -149.9 0.4 *Anchorage
PR NA 18.5 -66.1 2.0 *San Juan
CA NA 43.7 -79.4 6.4 Toronto
CA NA 45.5 -73.6 4.3 Montreal
CA NA 49.3 -123.1 2.7 Vancouver
CA NA 51.0 -114.1 1.5 Calgary
CA NA 53.5 -113.5 1.4 Edmonton
CA NA 45.4 -75.7 1.4 Ottawa
CA NA 49.9 -97.1 0.8 Winnipeg
CA NA 44.6 -63.6 0.5 Halifax
MX LA 19.4 -99.1 21.8 Mexico City
MX LA 20.7 -103.3 5.3 Guadalajara
MX LA 25.7 -100.3 5.3 Monterrey
MX LA 32.5 -117.0 2.2 Tijuana
GT LA 14.6 -90.5 3.0 Guatemala City
SV LA 13.7 -89.2 1.1 San Salvador
CR LA 9.9 -84.1 1.4 San José
PA LA 9.0 -79.5 1.9 Panama City
CU LA 23.1 -82.4 2.1 *Havana
DO LA 18.5 -69.9 3.3 *Santo Domingo
JM LA 18.0 -76.8 0.6 *Kingston
CO LA 4.7 -74.1 11.0 Bogotá
CO LA 6.2 -75.6 4.0 Medellín
VE LA 10.5 -66.9 2.9 Caracas
EC LA -0.2 -78.5 1.9 Quito
EC LA -2.2 -79.9 3.0 Guayaquil
PE LA -12.0 -77.0 10.9 Lima
BO LA -16.5 -68.1 1.9 La Paz
CL LA -33.4 -70.7 6.8 Santiago
AR LA -34.6 -58.4 15.4 Buenos Aires
AR LA -31.4 -64.2 1.6 Córdoba
UY LA -34.9 -56.2 1.8 Montevideo
PY LA -25.3 -57.6 3.4 Asunción
BR LA -23.6 -46.6 22.4 São Paulo
BR LA -22.9 -43.2 13.6 Rio de Janeiro
BR LA -19.9 -43.9 6.1 Belo Horizonte
BR LA -15.8 -47.9 4.8 Brasília
BR LA -30.0 -51.2 4.2 Porto Alegre
BR LA -8.1 -34.9 4.2 Recife
BR LA -3.7 -38.5 4.1 Fortaleza
BR LA -13.0 -38.5 3.9 Salvador
BR LA -25.4 -49.3 3.8 Curitiba
BR LA -3.1 -60.0 2.3 *Manaus
GB EU 51.5 -0.1 14.8 London
GB EU 53.5 -2.2 2.8 Manchester
GB EU 52.5 -1.9 2.7 Birmingham
GB EU 55.9 -4.3 1.7 Glasgow
IE EU 53.3 -6.3 1.3 Dublin
FR EU 48.9 2.4 11.2 Paris
FR EU 45.8 4.8 1.8 Lyon
FR EU 43.3 5.4 1.6 Marseille
FR EU 43.6 1.4 1.1 Toulouse
BE EU 50.9 4.4 2.1 Brussels
NL EU 52.4 4.9 2.5 Amsterdam
DE EU 50.1 8.7 2.4 Frankfurt
DE EU 52.5 13.4 4.6 Berlin
DE EU 53.6 10.0 3.3 Hamburg
DE EU 48.1 11.6 2.9 Munich
DE EU 50.9 7.0 2.1 Cologne
DE EU 48.8 9.2 2.7 Stuttgart
CH EU 47.4 8.5 1.4 Zurich
CH EU 46.2 6.1 0.6 Geneva
AT EU 48.2 16.4 2.0 Vienna
CZ EU 50.1 14.4 1.3 Prague
PL EU 52.2 21.0 1.8 Warsaw
PL EU 50.1 19.9 0.8 Kraków
PL EU 51.1 17.0 0.6 Wrocław
DK EU 55.7 12.6 1.4 Copenhagen
SE EU 59.3 18.1 1.7 Stockholm
SE EU 57.7 12.0 0.6 Gothenburg
NO EU 59.9 10.8 1.1 Oslo
FI EU 60.2 24.9 1.3 Helsinki
IS EU 64.1 -21.9 0.2 *Reykjavík
EE EU 59.4 24.7 0.4 Tallinn
LV EU 56.9 24.1 0.6 Riga
LT EU 54.7 25.3 0.6 Vilnius
ES EU 40.4 -3.7 6.7 Madrid
ES EU 41.4 2.2 5.7 Barcelona
ES EU 39.5 -0.4 0.8 Valencia
ES EU 28.1 -15.4 0.6 *Las Palmas
PT EU 38.7 -9.1 3.0 Lisbon
PT EU 41.1 -8.6 1.3 Porto
IT EU 45.5 9.2 3.2 Milan
IT EU 41.9 12.5 4.3 Rome
IT EU 40.9 14.3 2.2 Naples
MT EU 35.9 14.5 0.2 *Valletta
GR EU 38.0 23.7 3.2 Athens
CY EU 35.2 33.4 0.3 *Nicosia
RO EU 44.4 26.1 1.8 Bucharest
RO EU 46.8 23.6 0.4 Cluj
BG EU 42.7 23.3 1.3 Sofia
RS EU 44.8 20.5 1.4 Belgrade
HR EU 45.8 16.0 0.7 Zagreb
HU EU 47.5 19.0 1.8 Budapest
SK EU 48.1 17.1 0.4 Bratislava
UA EU 50.5 30.5 3.0 Kyiv
UA EU 49.8 24.0 0.7 Lviv
UA EU 50.0 36.2 1.4 Kharkiv
BY EU 53.9 27.6 2.0 Minsk
RU EU 55.8 37.6 12.7 Moscow
RU EU 59.9 30.3 5.5 St. Petersburg
RU EU 56.8 60.6 1.5 Yekaterinburg
RU EU 55.0 82.9 1.7 Novosibirsk
RU EA 43.1 131.9 0.6 *Vladivostok
TR ME 41.0 29.0 15.8 Istanbul
TR ME 39.9 32.9 5.4 Ankara
IL ME 32.1 34.8 4.4 Tel Aviv
JO ME 31.9 35.9 2.2 Amman
LB ME 33.9 35.5 2.4 Beirut
SA ME 24.7 46.7 7.7 Riyadh
SA ME 21.5 39.2 4.9 Jeddah
AE ME 25.2 55.3 3.0 Dubai
AE ME 24.5 54.4 1.6 Abu Dhabi
QA ME 25.3 51.5 2.4 Doha
KW ME 29.4 48.0 3.3 Kuwait
IQ ME 33.3 44.4 7.7 Baghdad
IR ME 35.7 51.4 9.5 Tehran
GE ME 41.7 44.8 1.1 Tbilisi
AM ME 40.2 44.5 1.1 Yerevan
AZ ME 40.4 49.9 2.4 Baku
KZ ME 43.2 76.9 2.0 Almaty
UZ ME 41.3 69.2 2.6 Tashkent
EG AF 30.0 31.2 22.2 Cairo
MA AF 33.6 -7.6 3.9 Casablanca
DZ AF 36.8 3.1 2.9 Algiers
TN AF 36.8 10.2 2.5 Tunis
NG AF 6.5 3.4 15.9 Lagos
NG AF 9.1 7.5 3.8 Abuja
GH AF 5.6 -0.2 2.7 Accra
CI AF 5.4 -4.0 5.7 Abidjan
SN AF 14.7 -17.5 3.3 Dakar
CM AF 4.1 9.7 4.1 Douala
CD AF -4.3 15.3 16.3 Kinshasa
AO AF -8.8 13.2 9.3 Luanda
KE AF -1.3 36.8 5.3 Nairobi
UG AF 0.3 32.6 3.8 Kampala
ET AF 9.0 38.7 5.5 Addis Ababa
TZ AF -6.8 39.3 7.8 Dar es Salaam
RW AF -2.0 30.1 1.3 Kigali
ZM AF -15.4 28.3 3.2 Lusaka
ZW AF -17.8 31.1 1.6 Harare
MZ AF -26.0 32.6 1.9 Maputo
ZA AF -26.2 28.0 10.0 Johannesburg
ZA AF -33.9 18.4 4.8 Cape Town
ZA AF -29.9 31.0 3.2 Durban
MG AF -18.9 47.5 3.9 *Antananarivo
MU AF -20.2 57.5 0.2 *Port Louis
RE AF -20.9 55.5 0.2 *Saint-Denis
IN SA 28.6 77.2 32.9 Delhi
IN SA 19.1 72.9 21.3 Mumbai
IN SA 12.97 77.6 13.6 Bengaluru
IN SA 13.1 80.3 11.8 Chennai
IN SA 17.4 78.5 10.8 Hyderabad
IN SA 22.6 88.4 15.3 Kolkata
IN SA 18.5 73.9 7.2 Pune
IN SA 23.0 72.6 8.6 Ahmedabad
IN SA 9.9 76.3 3.4 Kochi
PK SA 24.9 67.0 17.2 Karachi
PK SA 31.5 74.3 13.5 Lahore
PK SA 33.7 73.1 1.2 Islamabad
BD SA 23.8 90.4 23.2 Dhaka
LK SA 6.9 79.9 0.6 Colombo
NP SA 27.7 85.3 1.6 Kathmandu
MV SA 4.2 73.5 0.2 *Malé
JP EA 35.7 139.7 37.2 Tokyo
JP EA 34.7 135.5 19.0 Osaka
JP EA 35.2 136.9 9.6 Nagoya
JP EA 33.6 130.4 5.5 Fukuoka
JP EA 43.1 141.4 2.7 Sapporo
JP EA 26.2 127.7 0.9 *Naha
KR EA 37.6 127.0 10.0 Seoul
KR EA 35.2 129.1 3.5 Busan
TW EA 25.0 121.5 7.0 Taipei
TW EA 22.6 120.3 2.8 Kaohsiung
HK EA 22.3 114.2 7.5 Hong Kong
CN EA 31.2 121.5 29.2 Shanghai
CN EA 39.9 116.4 22.2 Beijing
CN EA 22.5 114.1 13.3 Shenzhen
CN EA 23.1 113.3 14.6 Guangzhou
CN EA 30.7 104.1 9.7 Chengdu
CN EA 30.6 114.3 8.9 Wuhan
CN EA 30.3 120.2 8.4 Hangzhou
CN EA 34.3 108.9 8.5 Xi'an
MN EA 47.9 106.9 1.7 Ulaanbaatar
SG SE 1.3 103.8 6.0 Singapore
MY SE 3.1 101.7 8.6 Kuala Lumpur
TH SE 13.8 100.5 11.1 Bangkok
VN SE 10.8 106.7 9.3 Ho Chi Minh City
VN SE 21.0 105.8 5.3 Hanoi
KH SE 11.6 104.9 2.3 Phnom Penh
MM SE 16.8 96.2 5.6 Yangon
ID SE -6.2 106.8 11.2 Jakarta
ID SE -7.3 112.8 3.0 Surabaya
ID SE -6.9 107.6 2.7 Bandung
ID SE -8.7 115.2 1.0 *Denpasar
ID SE -5.1 119.4 1.6 *Makassar
PH SE 14.6 121.0 14.7 Manila
PH SE 10.3 123.9 1.0 Cebu
AU OC -33.9 151.2 5.1 Sydney
AU OC -37.8 145.0 5.2 Melbourne
AU OC -27.5 153.0 2.5 Brisbane
AU OC -31.95 115.9 2.1 *Perth
AU OC -34.9 138.6 1.4 Adelaide
AU OC -42.9 147.3 0.3 *Hobart
NZ OC -36.8 174.8 1.7 Auckland
NZ OC -41.3 174.8 0.4 Wellington
NZ OC -43.5 172.6 0.4 Christchurch
FJ OC -18.1 178.4 0.2 *Suva
NC OC -22.3 166.5 0.2 *Nouméa
PF OC -17.5 -149.6 0.1 *Papeete
GU OC 13.5 144.8 0.2 *Guam
";

/// All of them.
pub(crate) fn cities() -> Vec<City> {
    TABLE
        .lines()
        .filter(|line| !line.is_empty())
        .map(city)
        .collect()
}

/// The city of a name.
pub(crate) fn find<'a>(cities: &'a [City], name: &str) -> &'a City {
    let mut cities = cities.iter();
    let found = cities.find(|city| city.name == name);
    found.unwrap_or_else(|| panic!("no city is called {name}"))
}

fn city(line: &'static str) -> City {
    let mut fields = line.splitn(6, ' ');
    let mut next = || fields.next().unwrap_or_else(|| panic!("too short: {line}"));
    let country = next();
    let region = region(next());
    let mut number = || {
        next()
            .parse()
            .unwrap_or_else(|_| panic!("no number: {line}"))
    };
    let (latitude, longitude, millions) = (number(), number(), number());
    let name = next();
    City {
        name: name.trim_start_matches('*'),
        country: country.as_bytes().try_into().expect("two letters"),
        region,
        at: Point {
            latitude,
            longitude,
        },
        millions,
        remote: name.starts_with('*'),
    }
}

fn region(code: &str) -> Region {
    match code {
        "NA" => Region::NorthAmerica,
        "LA" => Region::LatinAmerica,
        "EU" => Region::Europe,
        "AF" => Region::Africa,
        "ME" => Region::MiddleEast,
        "SA" => Region::SouthAsia,
        "EA" => Region::EastAsia,
        "SE" => Region::SoutheastAsia,
        "OC" => Region::Oceania,
        _ => panic!("no region is called {code}"),
    }
}
