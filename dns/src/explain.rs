//! Explanations for people: `GET /explain` of the admin listener, and the table they are read as.
//!
//! `GET /explain?ip=203.0.113.9` takes the address for the client's and says what a query with its
//! subnet is answered. Further keys: `resolver`, who sends the query (else the client itself);
//! `subnet=no`, for a resolver that sends no subnet; `name`, needed where several names are steered;
//! `format=text` for the table instead of JSON. It only reads.
//!
//! `why.<name>` says the same in short lines, to the one who asks it.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use hickory_proto::rr::Name;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use modcdn_core::admin::{Endpoint, json, text};
use serde::Serialize;

use crate::snapshot::Published;
use crate::steer::{Candidate, Client, Explanation, Map, Score, ViewId};
use crate::steering::known::Account;
use crate::zone::Zones;

/// The path of [`ExplainEndpoint`].
pub const PATH: &str = "/explain";

/// What is to be explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Who is to be led.
    pub client: IpAddr,
    /// Who sends the query; the client itself where nobody else is named.
    pub resolver: Option<IpAddr>,
    /// Whether the query carries the client's subnet.
    pub sends_subnet: bool,
    /// The steered name; may be left out where there is only one.
    pub name: Option<String>,
}

/// Why there is nothing to explain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum No {
    /// The client isn't named.
    #[error("whom? add ?ip=ADDRESS")]
    NoClient,
    /// Not an address.
    #[error("{key}={value}: not an IP address")]
    Address {
        /// The key.
        key: &'static str,
        /// What it says.
        value: String,
    },
    /// A key or a value that means nothing here.
    #[error("{0}: there are ip, resolver, name, subnet=no and format=text or json")]
    Key(String),
    /// The name isn't steered, or several are and none was named.
    #[error("{asked}steered names are: {}", names.join(", "))]
    Name {
        /// What was asked, in words.
        asked: String,
        /// The names that there are.
        names: Vec<String>,
    },
}

/// A choice with everything that led to it, and what a resolver is told.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explained {
    /// The steered name.
    pub name: String,
    /// The addresses answered, IPv4 before IPv6.
    pub addresses: Vec<IpAddr>,
    /// How long a resolver may keep them, in seconds.
    pub ttl: u32,
    /// What led to them.
    #[serde(flatten)]
    pub explanation: Explanation,
    /// What besides the configuration, where no node was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known: Option<Account>,
}

/// Explains what a map answers.
///
/// # Errors
/// If the name isn't steered.
pub fn explain(zones: &Zones, map: &Map, asked: &Asked, now: Instant) -> Result<Explained, No> {
    let (name, view) = steered(zones, asked.name.as_deref())?;
    let client = Client {
        subnet: asked.sends_subnet.then_some(asked.client),
        resolver: asked.resolver.unwrap_or(asked.client),
    };
    let choice = map.choose(view, &client, now);
    let pops = map.answer(choice.answer).pops.iter();
    let pops = pops.filter_map(|pop| map.pops().get(*pop));
    let v4 = pops.clone().flat_map(|pop| &pop.v4).copied();
    let v6 = pops.flat_map(|pop| &pop.v6).copied();
    Ok(Explained {
        name,
        addresses: v4.map(IpAddr::from).chain(v6.map(IpAddr::from)).collect(),
        ttl: choice.ttl,
        explanation: map.explain(view, &client),
        known: None,
    })
}

/// The view of a steered name, found whatever its case and with or without its last dot.
fn steered(zones: &Zones, asked: Option<&str>) -> Result<(String, ViewId), No> {
    let mut names: Vec<(&Name, ViewId)> = (zones.all().iter())
        .flat_map(|zone| zone.steered_names().map(|(name, view, _)| (name, view)))
        .collect();
    names.sort();
    let is_asked = |name: &Name| {
        let wanted = asked.and_then(|asked| Name::from_ascii(asked).ok());
        wanted.is_some_and(|mut wanted| {
            wanted.set_fqdn(true);
            wanted == *name
        })
    };
    let found = match (asked, names.as_slice()) {
        (None, [only]) => Some(*only),
        (None, _) => None,
        (Some(_), names) => names.iter().find(|(name, _)| is_asked(name)).copied(),
    };
    let (name, view) = found.ok_or_else(|| No::Name {
        asked: match asked {
            Some(asked) => format!("{asked} is not steered; "),
            None => "which name? ".to_owned(),
        },
        names: names.iter().map(|(name, _)| name.to_ascii()).collect(),
    })?;
    Ok((name.to_ascii(), view))
}

/// How an answer is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Text,
}

fn parse(query: &str) -> Result<(Asked, Format), No> {
    let address = |key: &'static str, value: &str| {
        value.parse().map_err(|_| No::Address {
            key,
            value: value.to_owned(),
        })
    };
    let (mut client, mut format) = (None, Format::Json);
    let mut asked = Asked {
        client: IpAddr::from([0, 0, 0, 0]),
        resolver: None,
        sends_subnet: true,
        name: None,
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("ip", value)) => client = Some(address("ip", value)?),
            Some(("resolver", value)) => asked.resolver = Some(address("resolver", value)?),
            Some(("name", value)) => asked.name = Some(value.to_owned()),
            Some(("subnet", "no")) => asked.sends_subnet = false,
            Some(("format", "text")) => format = Format::Text,
            Some(("format", "json")) => format = Format::Json,
            _ => return Err(No::Key(pair.to_owned())),
        }
    }
    asked.client = client.ok_or(No::NoClient)?;
    Ok((asked, format))
}

impl Asked {
    /// The query of a URL that asks this.
    #[must_use]
    pub fn query(&self) -> String {
        let mut query = format!("ip={}", self.client);
        if let Some(resolver) = self.resolver {
            let _ = write!(query, "&resolver={resolver}");
        }
        if let Some(name) = &self.name {
            let _ = write!(query, "&name={name}");
        }
        if !self.sends_subnet {
            query += "&subnet=no";
        }
        query
    }
}

/// `GET /explain`.
pub(crate) struct ExplainEndpoint {
    published: Arc<Published>,
}

impl ExplainEndpoint {
    pub(crate) fn new(published: Arc<Published>) -> Self {
        Self { published }
    }
}

#[async_trait]
impl Endpoint for ExplainEndpoint {
    fn method(&self) -> Method {
        Method::GET
    }

    fn path(&self) -> &'static str {
        PATH
    }

    async fn answer(&self, request: Request<Bytes>) -> Response<Full<Bytes>> {
        let explained =
            parse(request.uri().query().unwrap_or_default()).and_then(|(asked, format)| {
                let now = self.published.load_full();
                let zones = now.responder.zones();
                let explained = explain(zones, &now.map, &asked, Instant::now())?;
                Ok((explained, format))
            });
        match explained {
            Ok((explained, Format::Json)) => json(&explained),
            Ok((explained, Format::Text)) => text(StatusCode::OK, table(&explained)),
            Err(no @ No::Name { .. }) => text(StatusCode::NOT_FOUND, format!("{no}\n")),
            Err(no) => text(StatusCode::BAD_REQUEST, format!("{no}\n")),
        }
    }
}

/// An explanation as a table for a terminal.
#[must_use]
pub fn table(explained: &Explained) -> String {
    let Explained {
        name,
        addresses,
        ttl,
        explanation: it,
        known,
    } = explained;
    let mut facts = vec![("name", name.clone())];
    let subnet = match it.subnet {
        Some(subnet) => format!("{subnet}, sent by {}", it.resolver),
        None => format!("not sent; the resolver is {}", it.resolver),
    };
    facts.push(("client", subnet));
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let addresses = match addresses.as_slice() {
        [] => "no address".to_owned(),
        some => some.join(", "),
    };
    facts.push(("answer", format!("{}: {addresses}", it.answer)));
    let scope = match it.subnet {
        Some(_) if it.scope == 1 => "every address with the same first bit".to_owned(),
        Some(_) => format!("every address with the same first {} bits", it.scope),
        None => "whoever asks this resolver".to_owned(),
    };
    facts.push(("for", format!("{scope}, {ttl} s")));
    facts.push((
        "decided",
        format!("{}: {}, by the {}", it.source.name(), it.why, it.via.name()),
    ));
    facts.push(("unit", it.unit.clone()));
    facts.push(("place", place(it)));
    if let Some(home) = it
        .home
        .as_ref()
        .filter(|home| it.pops.first() != Some(*home))
    {
        facts.push(("home", format!("{home}, which has too much load")));
    }
    if let Some((pop, windows)) = &it.challenger {
        facts.push(("challenger", format!("{pop}, better for {windows} windows")));
    }
    match known {
        None => facts.push(("map", it.map.to_string())),
        Some(account) => facts.extend(account.facts()),
    }
    let mut out = String::new();
    for (what, said) in facts {
        let _ = writeln!(out, "{what:<11}{said}");
    }
    out.push('\n');
    out += &candidates(it);
    out
}

fn place(it: &Explanation) -> String {
    let country = it.country.clone();
    let point = it
        .place
        .map(|(north, east)| format!("{north:.1}, {east:.1}"));
    let asn = (it.asn != 0).then(|| format!("AS{}", it.asn));
    let known: Vec<String> = [country, point, asn].into_iter().flatten().collect();
    if known.is_empty() {
        "unknown".to_owned()
    } else {
        known.join(", ")
    }
}

/// The PoPs, the best first; `*` stands at those answered.
fn candidates(it: &Explanation) -> String {
    let total = |candidate: &Candidate| candidate.score.map_or(f64::INFINITY, |score| score.total);
    let mut ranked: Vec<&Candidate> = it.candidates.iter().collect();
    ranked.sort_by(|a, b| total(a).total_cmp(&total(b)));
    let head = [
        "pop",
        "state",
        "load",
        "shed",
        "closed",
        "km",
        "by distance",
        "known of network",
        "measured",
        "n",
        "bias",
        "penalty",
        "score ms",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(ranked.iter().map(|candidate| {
        let mark = if it.pops.contains(&candidate.pop) {
            "*"
        } else {
            ""
        };
        let percent = |part: f64| format!("{:.0} %", 100.0 * part);
        let of = |value: &dyn Fn(Score) -> Option<f64>, digits: usize| match candidate.score {
            Some(score) => value(score).map_or("-".to_owned(), |value| format!("{value:.digits$}")),
            None => "-".to_owned(),
        };
        vec![
            format!("{}{mark}", candidate.pop),
            candidate.state.name().to_owned(),
            percent(candidate.load),
            percent(candidate.shed),
            percent(candidate.closed),
            of(&|score| score.km, 0),
            of(&|score| Some(score.prior), 1),
            of(&|score| Some(score.inherited), 1),
            of(&|score| score.median, 1),
            of(&|score| Some(score.n), 1),
            of(&|score| Some(score.bias), 1),
            of(&|score| Some(score.penalty), 1),
            of(&|score| Some(score.total), 1),
        ]
    }));
    columns(&rows)
}

/// Rows as columns: the first two to the left, numbers to the right.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = if column < 2 {
                write!(line, "{cell:<width$}  ")
            } else {
                write!(line, "{cell:>width$}  ")
            };
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::{Pop, SteeredName};
    use crate::steering::known::Known;
    use crate::{Config, Offline};

    fn config() -> Config {
        let pop = |name: &str, last: u8| Pop {
            name: name.to_owned(),
            addresses: vec![IpAddr::from([127, 0, 0, last])],
            latitude: 0.0,
            longitude: 0.0,
            health: None,
        };
        Config {
            pops: vec![pop("eu", 11), pop("us", 12)],
            pins: [("192.0.2.0/24".parse().unwrap(), "us".to_owned())].into(),
            order: vec!["eu".to_owned()],
            ..Config::default()
        }
    }

    fn ask(config: &Config, query: &str) -> Result<Explained, No> {
        let Offline { zones, map, .. } = crate::offline(config, &Known::nothing()).unwrap();
        let (asked, _) = parse(query)?;
        assert_eq!(
            parse(&asked.query()).map(|(again, _)| again),
            Ok(asked.clone())
        );
        explain(&zones, &map, &asked, Instant::now())
    }

    #[test]
    fn a_client_is_explained_by_its_subnet_or_by_its_resolver() {
        let config = config();
        let of = |query: &str| {
            let explained = ask(&config, query).unwrap();
            (
                explained.explanation.answer.clone(),
                explained.explanation.scope,
                explained.addresses,
            )
        };
        let (eu, us) = (IpAddr::from([127, 0, 0, 11]), IpAddr::from([127, 0, 0, 12]));
        assert_eq!(of("ip=192.0.2.9"), ("us".to_owned(), 24, vec![us]));
        assert_eq!(of("ip=192.0.2.9&name=GO.test").0, "us");
        assert_eq!(
            of("ip=192.0.2.9&resolver=203.0.113.1&subnet=no"),
            ("eu".to_owned(), 0, vec![eu])
        );
        assert_eq!(of("ip=192.0.2.9&subnet=no").0, "us");
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let one = config();
        let several = Config {
            steered: ["go.test.", "eu.go.test."]
                .map(|name| SteeredName {
                    name: name.parse().unwrap(),
                    pops: BTreeSet::new(),
                    https: None,
                })
                .into(),
            ..config()
        };
        for (config, query, said) in [
            (&one, "", "whom? add ?ip=ADDRESS"),
            (&one, "ip=x", "ip=x: not an IP address"),
            (&one, "ip=192.0.2.9&q=1", "q=1: there are ip, resolver"),
            (
                &one,
                "ip=192.0.2.9&name=no.test",
                "no.test is not steered; steered names are: go.test.",
            ),
            (
                &several,
                "ip=192.0.2.9",
                "which name? steered names are: go.test., eu.go.test.",
            ),
        ] {
            let no = ask(config, query).unwrap_err().to_string();
            assert!(no.starts_with(said), "{no}");
        }
        assert!(ask(&several, "ip=192.0.2.9&name=eu.go.test.").is_ok());
    }

    #[test]
    fn the_table_names_what_decided_and_stars_what_is_answered() {
        let text = table(&ask(&config(), "ip=192.0.2.9").unwrap());
        for line in [
            "answer     us: 127.0.0.12",
            "decided    pin: pin 192.0.2.0/24, by the subnet",
            "us*",
        ] {
            assert!(text.contains(line), "no {line:?} in\n{text}");
        }
    }
}
