//! One request answered: the border, the engine, and the one place that writes an answer.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::poll;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::sync::mpsc;

use modcdn_core::refusal::{Reason, Refusal};

use super::border::{self, Names, Raw, Target};
use super::clients::{Clients, Visit};
use super::drain::Drain;
use super::mounts::Mounts;
use super::pace::Pace;
use super::request::Request;
use super::session::{Gone, Session, within};
use crate::access::{Access, Entry, HEALTH_KIND, HTTP_KIND};
use crate::config::{Config, LimitConfig, ProxyProtocolConfig, TimeoutConfig};
use crate::exchange::{Aborted, Answer, Asked, Body, BodyStream, Cached, HttpAsked};

/// Whoever knows the answers: the engine, or a test.
pub(crate) trait Answers: Send + Sync + 'static {
    /// The answer to one request. Never fails: a failure is an answer, too. Bounded in time.
    fn answer(&self, asked: Asked) -> impl Future<Output = Answer> + Send;

    /// The same for a plain HTTP mount.
    fn pass(&self, asked: HttpAsked) -> impl Future<Output = Answer> + Send;
}

/// What all connections share.
pub(crate) struct Service<A> {
    pub(crate) answers: A,
    pub(crate) access: Access,
    pub(crate) drain: Drain,
    pub(crate) clients: Clients,
    pub(crate) settings: ArcSwap<Settings>,
    /// Not among the settings: the engine has a client for each.
    pub(crate) mounts: Mounts,
}

/// What may change while the edge runs. A connection keeps to the end what it began with.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) timeouts: TimeoutConfig,
    pub(crate) limits: LimitConfig,
    /// Names served, in lower case; empty means any.
    pub(crate) hosts: Vec<String>,
    pub(crate) proxy_protocol: ProxyProtocolConfig,
}

impl Settings {
    /// Those of a configuration.
    pub(crate) fn of(config: &Config) -> Settings {
        Settings {
            timeouts: config.timeouts.clone(),
            limits: config.limits.clone(),
            hosts: config
                .hosts
                .iter()
                .map(|host| host.to_ascii_lowercase())
                .collect(),
            proxy_protocol: config.proxy_protocol.clone(),
        }
    }

    /// How slowly a client may take an answer.
    fn pace(&self) -> Pace {
        Pace::new(self.limits.send_rate.as_u64(), self.timeouts.write.get())
    }
}

/// What is known of a connection.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) settings: Arc<Settings>,
    /// The client's: the socket's, or what a trusted balancer says.
    pub(crate) address: Option<SocketAddr>,
    /// Its place among the client's connections.
    pub(crate) visit: Option<Arc<Visit>>,
    /// The name TLS was told, in lower case.
    pub(crate) sni: Option<Arc<str>>,
    pub(crate) tls: bool,
}

/// Pieces of a request's body that wait for the origin; each is what one read from the socket gave.
const UPLOAD_PIECES: usize = 4;

impl<A: Answers> Service<A> {
    /// Answers one request. The session's protocol decides what comes after.
    pub(crate) async fn serve(&self, request: &Request, session: &mut Session, peer: &Peer) {
        let mut entry = self.access.enter(
            peer.address,
            request.protocol(),
            request.method.as_str(),
            request.target(),
        );
        let limit = peer.settings.timeouts.request.get();
        let answered = {
            let exchange = pin!(self.exchange(request, session, peer, &mut entry));
            within(limit, exchange).await
        };
        if matches!(answered, Some(Ok(()))) {
            return;
        }
        if entry.status.is_success() {
            self.access.metrics.aborted.inc();
        }
        if answered.is_none() {
            entry.reason.get_or_insert(Reason::RequestTimeout);
        }
        session.abort();
    }

    async fn exchange(
        &self,
        request: &Request,
        session: &mut Session,
        peer: &Peer,
        entry: &mut Entry<'_>,
    ) -> Result<(), Gone> {
        let mut head = request.method == http::Method::HEAD;
        let answer = match admit(request, peer, &self.mounts) {
            Ok(Target::Health) => {
                entry.kind = HEALTH_KIND;
                self.health()
            }
            Ok(Target::Module(asked)) => {
                entry.kind = asked.request.kind();
                head = asked.head;
                let answering = pin!(self.in_turn(asked, request.target(), peer));
                unless_given_up(session, answering).await?
            }
            Ok(Target::Http(mut asked)) => {
                entry.kind = HTTP_KIND;
                asked.protocol = request.protocol();
                // Boxed: a hit's future needn't have room for it.
                match turn(request.target(), peer).await {
                    Ok(()) => Box::pin(self.pass(*asked, request.has_body, session, peer)).await?,
                    Err(too_many) => too_many,
                }
            }
            Err(refusal) => refused(&refusal),
        };
        self.write(session, answer, head, peer.settings.pace(), entry)
            .await
    }

    /// The engine's answer, once it is this client's turn.
    async fn in_turn(&self, asked: Asked, target: &str, peer: &Peer) -> Answer {
        match turn(target, peer).await {
            Ok(()) => self.answers.answer(asked).await,
            Err(too_many) => too_many,
        }
    }

    /// Has a request to a plain HTTP mount answered, and its body read meanwhile.
    async fn pass(
        &self,
        mut asked: HttpAsked,
        has_body: bool,
        session: &mut Session,
        peer: &Peer,
    ) -> Result<Answer, Gone> {
        asked.client = peer.address.map(|address| address.ip());
        asked.tls = peer.tls;
        if !has_body {
            let mut answering = Box::pin(self.answers.pass(asked));
            return unless_given_up(session, answering.as_mut()).await;
        }
        let (sender, upload) = mpsc::channel(UPLOAD_PIECES);
        let unfinished = sender.downgrade();
        asked.upload = Some(upload);
        let mut feeding = Box::pin(session.feed(sender, peer.settings.timeouts.write.get()));
        let answer = tokio::select! {
            biased;
            answer = Box::pin(self.answers.pass(asked)) => answer,
            () = &mut feeding => return Err(Gone),
        };
        // The origin answered before it had all of the body: the rest must not look like its end.
        if let Some(sender) = unfinished.upgrade() {
            let reason = Reason::BadRequest;
            tokio::spawn(async move { sender.send(Err(Aborted { reason })).await });
        }
        drop(feeding);
        Ok(answer)
    }

    /// Answers a request that is malformed in a way only its protocol knows of.
    pub(crate) async fn refuse(
        &self,
        request: &Request,
        session: &mut Session,
        peer: &Peer,
        what: &str,
    ) {
        let (method, target) = (request.method.as_str(), request.target());
        let mut entry = self
            .access
            .enter(peer.address, request.protocol(), method, target);
        let answer = refused(&Refusal::new(Reason::BadRequest, target, what));
        let pace = peer.settings.pace();
        if self
            .write(session, answer, false, pace, &mut entry)
            .await
            .is_err()
        {
            session.abort();
        }
    }

    fn health(&self) -> Answer {
        if self.drain.is_going_down() {
            let refusal = Refusal::new(Reason::Draining, border::HEALTH, "this node is going down");
            return refused(&refusal);
        }
        let mut headers = HeaderMap::with_capacity(3);
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        text(StatusCode::OK, headers, Bytes::from_static(b"ok\n"))
    }

    /// The one place that writes an answer. `head`: nothing of its body.
    async fn write(
        &self,
        session: &mut Session,
        answer: Answer,
        head: bool,
        mut pace: Pace,
        entry: &mut Entry<'_>,
    ) -> Result<(), Gone> {
        (entry.cache, entry.reason) = (answer.cache, answer.reason);
        let Answer {
            status,
            headers,
            body,
            ..
        } = answer;
        entry.status = status;
        match body {
            Body::Whole(bytes) if !head && !bytes.is_empty() => {
                session.write_head(status, headers, false).await?;
                let length = bytes.len() as u64;
                session.write_body(bytes, true, &mut pace).await?;
                entry.bytes += length;
                Ok(())
            }
            Body::Stream(stream) if !head => {
                let announced = content_length(&headers);
                session.write_head(status, headers, false).await?;
                Box::pin(stream_body(session, stream, announced, pace, entry)).await
            }
            _ => session.write_head(status, headers, true).await,
        }
    }
}

/// The answer, unless the client gives the request up first.
async fn unless_given_up(
    session: &mut Session,
    mut answering: Pin<&mut impl Future<Output = Answer>>,
) -> Result<Answer, Gone> {
    if let Poll::Ready(answer) = poll!(answering.as_mut()) {
        return Ok(answer);
    }
    tokio::select! {
        biased;
        answer = answering => Ok(answer),
        () = session.given_up() => Err(Gone),
    }
}

/// Waits for this client's turn.
///
/// # Errors
/// What it is answered if it asks too much.
async fn turn(target: &str, peer: &Peer) -> Result<(), Answer> {
    match &peer.visit {
        Some(visit) => visit.turn(&peer.settings.limits.rate, target).await,
        None => Ok(()),
    }
}

fn admit(request: &Request, peer: &Peer, mounts: &Mounts) -> Result<Target, Refusal> {
    let target = request.target();
    if request.headers.len() > peer.settings.limits.header_fields {
        let what = "the header has too many fields";
        return Err(Refusal::new(Reason::HeadersTooLarge, target, what));
    }
    let raw = Raw {
        method: &request.method,
        target,
        authority: request.authority(),
        headers: &request.headers,
        has_body: request.has_body,
    };
    let names = Names {
        served: &peer.settings.hosts,
        sni: peer.sni.as_deref(),
    };
    border::admit(raw, names, mounts)
}

async fn stream_body(
    session: &mut Session,
    mut stream: Box<dyn BodyStream>,
    announced: Option<u64>,
    mut pace: Pace,
    entry: &mut Entry<'_>,
) -> Result<(), Gone> {
    loop {
        let sent = from_file(session, stream.as_mut(), &mut pace).await?;
        if sent > 0 {
            entry.bytes += sent;
            continue;
        }
        match stream.next().await {
            Ok(Some(piece)) => {
                let length = piece.len() as u64;
                session.write_body(piece, false, &mut pace).await?;
                entry.bytes += length;
            }
            // HTTP/2 would let a short body end cleanly.
            Ok(None) if announced.is_some_and(|length| length != entry.bytes) => {
                entry.reason = Some(Reason::Internal);
                return Err(Gone);
            }
            Ok(None) => return session.finish().await,
            Err(aborted) => {
                entry.reason = Some(aborted.reason);
                return Err(Gone);
            }
        }
    }
}

/// Sends some of a body that lies in a file. Answers how many bytes, 0 if they have to be read.
async fn from_file(
    session: &mut Session,
    stream: &mut dyn BodyStream,
    pace: &mut Pace,
) -> Result<u64, Gone> {
    if !stream.lies_in_file() || !session.takes_files() {
        return Ok(0);
    }
    let sent = session.write_file(|| stream.span(), pace).await?;
    stream.advance(sent);
    if stream.lies_in_file() {
        // A client that takes a long body as fast as we send it must not keep the thread.
        tokio::task::yield_now().await;
    }
    Ok(sent)
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The one place that turns a refusal into an answer.
pub(crate) fn refused(refusal: &Refusal) -> Answer {
    let mut headers = refusal.headers(Duration::ZERO);
    if refusal.reason == Reason::Method {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    let mut answer = text(refusal.reason.status(), headers, refusal.text());
    answer.reason = Some(refusal.reason);
    answer
}

fn text(status: StatusCode, mut headers: HeaderMap, body: Bytes) -> Answer {
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    Answer {
        status,
        headers,
        body: Body::Whole(body),
        cache: Cached::Bypass,
        reason: None,
    }
}
