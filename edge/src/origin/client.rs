//! The origin over HTTP/2: Pingora's transport connector and HTTP/2 client under our pool.
//!
//! `http` URLs are spoken to by prior knowledge, `https` ones by TLS and ALPN; an origin that
//! doesn't speak HTTP/2 is an error. A request whose connection turns out dead before the head of
//! its answer is here is sent again on a fresh one: all our requests are GETs. One whose answer is
//! too late is sent to another address, if there is one that isn't under suspicion. A connection on
//! which an answer was too late, or a body stalled, takes no new requests, for it may be a black
//! hole.
//!
//! An origin that is alive and needs longer than that for an answer says so: it is asked to answer 202
//! (`Prefer: respond-async`, RFC 7240) in good time, and then asked again, until the whole time is up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, HOST, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, StatusCode};
use pingora::http::RequestHeader;
use tokio::runtime::Handle;
use tokio::time::{Instant as Deadline, sleep_until, timeout, timeout_at};

use modcdn_core::headers::DISABLE_MODULE_FETCH;
use modcdn_core::prefer::{self, PREFER};

use super::dial::{Dialler, Endpoint};
use super::directory::Directory;
use super::gate::{Entered, Gate, Place};
use super::metrics::OriginMetrics;
use super::pool::{Bounds, Lease, Pool};
use super::resolve::Resolve;
use super::{Origin, OriginBody, OriginError, OriginRequest, OriginResponse, Stage};
use crate::config::OriginConfig;

/// The real origin.
pub struct Client {
    gate: Arc<Gate>,
    directory: Arc<Directory>,
    pool: Arc<Pool>,
    /// For relays: streams that stall take no other's part of a connection's window.
    relays: Arc<Pool>,
    authority: HeaderValue,
    config: OriginConfig,
    metrics: OriginMetrics,
}

impl Client {
    /// Makes a client. Connections live on `runtime`; the first of them is opened at once.
    ///
    /// # Errors
    /// A text, if the URL is none or the file of authorities can't be read.
    pub fn new(
        config: &OriginConfig,
        runtime: Handle,
        metrics: OriginMetrics,
    ) -> Result<Client, String> {
        let endpoint = Endpoint::parse(&config.url)?;
        let authority =
            HeaderValue::try_from(&endpoint.authority).map_err(|error| error.to_string())?;
        let resolve = Resolve::new(&endpoint.host, endpoint.port, &config.resolvers);
        let suspicion = config.exchange().suspicion();
        let directory = Arc::new(Directory::new(
            resolve,
            suspicion,
            metrics.directory.clone(),
        ));
        let counted = metrics.gate.clone();
        let gate = Gate::new(&endpoint.authority, config.exchange().bounds(), counted);
        let gate = Arc::new(gate);
        let pool = |config: &OriginConfig, runtime, metrics| {
            let (directory, gate) = (Arc::clone(&directory), Arc::clone(&gate));
            let dialler = Dialler::new(config, &endpoint, Arc::clone(&directory))?;
            let (dial, bounds) = (Box::new(dialler), bounds(config));
            Ok::<_, String>(Pool::new(dial, directory, gate, bounds, runtime, metrics))
        };
        let relays = pool(&for_relays(config), runtime.clone(), metrics.of_relays())?;
        let pool = pool(config, runtime, metrics.clone())?;
        Ok(Client {
            gate,
            directory,
            pool,
            relays,
            authority,
            config: config.clone(),
            metrics,
        })
    }

    async fn exchange(&self, request: &OriginRequest) -> Result<OriginResponse, OriginError> {
        let relay = match request.relay {
            true => Some(self.gate.relay().await?),
            false => None,
        };
        let mut entered = self.gate.enter().await?;
        let ends = Deadline::now() + self.config.total_timeout.get();
        match self.ask(request, ends, &mut entered).await {
            Ok(Headed {
                status,
                headers,
                mut body,
            }) => {
                let place = entered.answered();
                body.place = relay.or(place);
                Ok(OriginResponse {
                    status,
                    headers,
                    body: Box::new(body),
                })
            }
            Err(error) => {
                entered.failed(&error);
                Err(error)
            }
        }
    }

    /// Asks again for as long as the origin says that it is at work.
    async fn ask(
        &self,
        request: &OriginRequest,
        ends: Deadline,
        entered: &mut Entered<'_>,
    ) -> Result<Headed, OriginError> {
        loop {
            let asked = Deadline::now();
            let headed = self.try_until(request, ends).await?;
            let wait = match self.preference(request) {
                Some((wait, _)) if headed.status == StatusCode::ACCEPTED => wait,
                _ => return Ok(headed),
            };
            entered.heard();
            self.metrics.at_work.inc();
            let mut body = headed.body;
            while body.next().await?.is_some() {}
            drop(body);
            // It said so after the wait; one that says so at once isn't asked more often for it.
            sleep_until(ends.min(asked + wait)).await;
            if Deadline::now() >= ends {
                return Err(OriginError::Timeout {
                    stage: Stage::Total,
                    limit: self.config.total_timeout.get(),
                });
            }
        }
    }

    /// After which time the origin is to say at least that it is at work: in the midst of the time after
    /// which it is taken for dead. None where nobody would wait, or seconds are too coarse for that.
    fn preference(&self, request: &OriginRequest) -> Option<(Duration, HeaderValue)> {
        let wait = self.config.first_byte_timeout.get() / 2;
        let value = prefer::respond_async(wait).filter(|_| request.patient)?;
        Some((wait, value))
    }

    /// Up to `origin.tries` times.
    async fn try_until(
        &self,
        request: &OriginRequest,
        ends: Deadline,
    ) -> Result<Headed, OriginError> {
        let pool = if request.relay {
            &self.relays
        } else {
            &self.pool
        };
        let mut fresh = None;
        let mut tries = 1;
        loop {
            let lease = pool.lease(fresh).await?;
            let failed = match self.attempt(lease, request, ends).await {
                Ok(headed) => return Ok(headed),
                Err(failed) => failed,
            };
            let worth_it = match failed.again {
                Again::Fresh => true,
                Again::Elsewhere => self.directory.addresses().has_sound(Instant::now()),
                Again::No => false,
            };
            if !worth_it || tries >= self.config.tries {
                return Err(failed.error);
            }
            if failed.again == Again::Fresh {
                fresh = Some(Instant::now());
            }
            tries += 1;
            self.metrics.retries.inc();
        }
    }

    async fn attempt(
        &self,
        mut lease: Lease,
        request: &OriginRequest,
        ends: Deadline,
    ) -> Result<Headed, Failed> {
        let header = self.header(request)?;
        let session = lease.session();
        if let Err(error) = session.write_request_header(Box::new(header), true) {
            return Err(failed(&mut lease, &error));
        }
        let limit = self.config.first_byte_timeout.get();
        match timeout(limit, session.read_response_header()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(failed(&mut lease, &error)),
            Err(_) => return Err(late(&mut lease, limit)),
        }
        let Some(head) = lease.session().response_header() else {
            return Err(OriginError::Invalid {
                why: "no head".to_owned(),
            }
            .into());
        };
        let (status, headers) = (head.status, head.headers.clone());
        let body = ClientBody {
            lease,
            place: None,
            stall: self.config.stall_timeout.get(),
            total: self.config.total_timeout.get(),
            ends,
        };
        Ok(Headed {
            status,
            headers,
            body,
        })
    }

    fn header(&self, request: &OriginRequest) -> Result<RequestHeader, OriginError> {
        let invalid = |error: Box<pingora::Error>| OriginError::Invalid {
            why: error.to_string(),
        };
        let mut header = RequestHeader::build_no_case("GET", request.path.as_bytes(), Some(6))
            .map_err(invalid)?;
        let mut set = |name, value: HeaderValue| header.insert_header(name, value).map_err(invalid);
        set(HOST, self.authority.clone())?;
        set(ACCEPT_ENCODING, HeaderValue::from_static("identity"))?;
        if let Some(etags) = &request.if_none_match {
            set(IF_NONE_MATCH, etags.clone())?;
        }
        if let Some(resume) = &request.resume {
            set(RANGE, resume.range())?;
            set(IF_RANGE, resume.if_range.clone())?;
        }
        if let Some(authorization) = &request.authorization {
            set(AUTHORIZATION, authorization.clone())?;
        }
        if let Some((_, preference)) = self.preference(request) {
            set(PREFER, preference)?;
        }
        if request.no_fetch {
            set(DISABLE_MODULE_FETCH, HeaderValue::from_static("true"))?;
        }
        Ok(header)
    }
}

fn bounds(config: &OriginConfig) -> Bounds {
    Bounds {
        connections: config.connections,
        streams: config.streams_per_connection,
        warm: config.warm,
        idle: config.idle_timeout.get(),
        wait: config.connect_timeout.get(),
    }
}

/// The same for relays: as many streams on a connection as its window has room for if none of them is
/// read, and as many connections as that takes.
fn for_relays(config: &OriginConfig) -> OriginConfig {
    let room = config.connection_window.as_u64() / config.stream_window.as_u64();
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    let streams = room.clamp(1, config.streams_per_connection);
    OriginConfig {
        connections: config.relays.div_ceil(streams),
        streams_per_connection: streams,
        warm: 0,
        ..config.clone()
    }
}

#[async_trait]
impl Origin for Client {
    async fn send(&self, request: OriginRequest) -> Result<OriginResponse, OriginError> {
        let started = Instant::now();
        let result = self.exchange(&request).await;
        match &result {
            Ok(response) => self.metrics.answered(response.status, started.elapsed()),
            Err(error) => {
                self.metrics.failed(error.name());
                tracing::debug!(path = request.path, %error, "the origin did not answer");
            }
        }
        result
    }
}

/// The head of an answer, and its body to be read.
struct Headed {
    status: StatusCode,
    headers: HeaderMap,
    body: ClientBody,
}

/// An attempt that got no head.
struct Failed {
    again: Again,
    error: OriginError,
}

/// Whether to try once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// On a new connection: this one was dead.
    Fresh,
    /// At another address.
    Elsewhere,
    No,
}

impl From<OriginError> for Failed {
    fn from(error: OriginError) -> Failed {
        Failed {
            again: Again::No,
            error,
        }
    }
}

/// No head came in time.
fn late(lease: &mut Lease, limit: Duration) -> Failed {
    lease.strike();
    lease.retire_connection();
    Failed {
        again: Again::Elsewhere,
        error: OriginError::Timeout {
            stage: Stage::FirstByte,
            limit,
        },
    }
}

/// Tells a dead connection from an origin that refuses this one request.
fn failed(lease: &mut Lease, error: &pingora::Error) -> Failed {
    let broken = OriginError::Broken {
        why: error.to_string(),
    };
    let connection = &lease.session().conn;
    let closed = connection.is_closed() || connection.ping_timedout();
    let dead = closed
        || error.retry()
        || error
            .root_cause()
            .downcast_ref::<h2::Error>()
            .is_some_and(|error| {
                let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
                error.is_io() || error.is_go_away() || (error.is_reset() && refused)
            });
    if dead {
        lease.retire_connection();
    }
    let again = if dead { Again::Fresh } else { Again::No };
    Failed {
        again,
        error: broken,
    }
}

struct ClientBody {
    lease: Lease,
    /// Held for as long as the body is read, among the requests or the relays.
    place: Option<Place>,
    stall: Duration,
    total: Duration,
    ends: Deadline,
}

impl ClientBody {
    /// The wait for the next piece: when it ends, and what it is called.
    fn bound(&self) -> (Deadline, OriginError) {
        let stalled = Deadline::now() + self.stall;
        if stalled < self.ends {
            (
                stalled,
                OriginError::Timeout {
                    stage: Stage::Stall,
                    limit: self.stall,
                },
            )
        } else {
            (
                self.ends,
                OriginError::Timeout {
                    stage: Stage::Total,
                    limit: self.total,
                },
            )
        }
    }
}

#[async_trait]
impl OriginBody for ClientBody {
    async fn next(&mut self) -> Result<Option<Bytes>, OriginError> {
        let (deadline, late) = self.bound();
        loop {
            // Pingora gives the flow-control window back as it hands the bytes out.
            match timeout_at(deadline, self.lease.session().read_response_body()).await {
                Ok(Ok(Some(piece))) if piece.is_empty() => {}
                Ok(Ok(Some(piece))) => return Ok(Some(piece)),
                Ok(Ok(None)) => {
                    self.lease.clear();
                    return Ok(None);
                }
                Ok(Err(error)) => {
                    self.lease.strike();
                    return Err(OriginError::Broken {
                        why: error.to_string(),
                    });
                }
                Err(_) => {
                    // The connection may be a black hole: what follows takes another.
                    self.lease.strike();
                    self.lease.retire_connection();
                    return Err(late);
                }
            }
        }
    }

    async fn trailers(&mut self) -> Result<Option<HeaderMap>, OriginError> {
        let (deadline, late) = self.bound();
        match timeout_at(deadline, self.lease.session().read_trailers()).await {
            Ok(Ok(trailers)) => Ok(trailers),
            Ok(Err(error)) => Err(OriginError::Broken {
                why: error.to_string(),
            }),
            Err(_) => Err(late),
        }
    }
}

#[cfg(test)]
mod tests;
