//! One request answered: the border, the engine, and the one place that writes an answer.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::poll;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::sync::mpsc;

use modcdn_core::refusal::{Reason, Refusal};

use super::border::{self, Names, Raw, Target};
use super::clients::{Clients, Visit};
use super::drain::Drain;
use super::head::Malformed;
use super::mounts::Mounts;
use super::pace::Pace;
use super::request::Request;
use super::session::{Gone, Session, within};
use crate::access::{Access, Entry, HEALTH_KIND, HTTP_KIND};
use crate::config::{Config, LimitConfig, ProxyProtocolConfig, TimeoutConfig};
use crate::exchange::{Aborted, Answer, Answering, Asked, Body, BodyStream, Cached, HttpAsked};

/// Whoever knows the answers: the engine, or a test.
pub(crate) trait Answers: Send + Sync + 'static {
    /// The answer to one request, at once if nothing has to be waited for. Never fails: a failure is an
    /// answer, too. Bounded in time.
    fn answer(&self, asked: Asked) -> Answering;

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

/// A request that was let in, or refused: what is left to do, and its line in the log.
pub(crate) struct Exchange<'a> {
    entry: Entry<'a>,
    /// Nothing of the body is sent.
    head: bool,
    next: Next,
}

/// What comes next.
enum Next {
    /// Writing the answer.
    Write(Answer),
    /// Waiting for it.
    Wait(BoxFuture<'static, Answer>),
    /// It isn't this client's turn for so long.
    Queue(Duration, Target),
    /// Passing it to a plain HTTP mount.
    Pass(Box<HttpAsked>),
}

impl Exchange<'_> {
    /// The answer and what is to be sent of its body, if both are there.
    pub(crate) fn ready(&self) -> Option<(&Answer, &[u8])> {
        let Next::Write(answer) = &self.next else {
            return None;
        };
        match &answer.body {
            _ if self.head => Some((answer, &[])),
            Body::Empty => Some((answer, &[])),
            Body::Whole(bytes) => Some((answer, bytes)),
            Body::Stream(_) => None,
        }
    }

    /// What was [`Self::ready`] was written: the status, and so many bytes of the body.
    pub(crate) fn wrote(&mut self, bytes: u64) {
        if let Next::Write(answer) = &self.next {
            self.entry.answered(answer);
            self.entry.bytes = bytes;
        }
    }
}

impl<A: Answers> Service<A> {
    /// Answers one request. The session's protocol decides what comes after.
    pub(crate) async fn serve(&self, request: &Request, session: &mut Session, peer: &Peer) {
        let exchange = self.begin(request, peer);
        self.finish(exchange, request, session, peer).await;
    }

    /// Lets a request in, and has it answered as far as that needs no waiting.
    pub(crate) fn begin(&self, request: &Request, peer: &Peer) -> Exchange<'_> {
        let mut entry = self.enter(request, peer);
        let mut head = request.method == http::Method::HEAD;
        let next = match admit(request, peer, &self.mounts) {
            Ok(Target::Health) => {
                entry.kind = HEALTH_KIND;
                Next::Write(self.health())
            }
            Ok(target) => {
                match &target {
                    Target::Module(asked) => {
                        entry.kind = asked.request.kind();
                        head = asked.head;
                    }
                    _ => entry.kind = HTTP_KIND,
                }
                let rate = &peer.settings.limits.rate;
                let turn = peer.visit.as_ref().map(|visit| visit.turn(rate));
                match turn {
                    None | Some(Ok(Duration::ZERO)) => self.ask(target),
                    Some(Ok(wait)) => Next::Queue(wait, target),
                    Some(Err(too_many)) => Next::Write(too_many.answer(&request.target, rate)),
                }
            }
            Err(refusal) => Next::Write(refused(&refusal)),
        };
        Exchange { entry, head, next }
    }

    /// A request that is malformed in a way only its protocol knows of.
    pub(crate) fn refuse(&self, request: &Request, peer: &Peer, wrong: Malformed) -> Exchange<'_> {
        let refusal = Refusal::new(wrong.reason, &*request.target, wrong.what);
        Exchange {
            entry: self.enter(request, peer),
            head: false,
            next: Next::Write(refused(&refusal)),
        }
    }

    fn enter(&self, request: &Request, peer: &Peer) -> Entry<'_> {
        let (method, target) = (request.method.as_str(), &request.target);
        self.access
            .enter(peer.address, request.protocol(), method, target)
    }

    /// Asks for what a request is for.
    fn ask(&self, target: Target) -> Next {
        match target {
            Target::Health => Next::Write(self.health()),
            Target::Module(asked) => match self.answers.answer(asked) {
                Answering::Now(answer) => Next::Write(answer),
                Answering::Later(answer) => Next::Wait(answer),
            },
            Target::Http(asked) => Next::Pass(asked),
        }
    }

    /// Does what is left of a request.
    pub(crate) async fn finish(
        &self,
        mut exchange: Exchange<'_>,
        request: &Request,
        session: &mut Session,
        peer: &Peer,
    ) {
        let limit = peer.settings.timeouts.request.get();
        let entry = &mut exchange.entry;
        let answered = {
            let (head, next) = (exchange.head, exchange.next);
            let finishing = pin!(self.go_on(next, head, request, session, peer, entry));
            within(limit, finishing).await
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

    async fn go_on(
        &self,
        mut next: Next,
        head: bool,
        request: &Request,
        session: &mut Session,
        peer: &Peer,
        entry: &mut Entry<'_>,
    ) -> Result<(), Gone> {
        if let Next::Queue(wait, target) = next {
            // Apart: nearly no request has to carry a timer.
            let turn = Box::pin(tokio::time::sleep(wait));
            unless_given_up(session, turn).await?;
            next = self.ask(target);
        }
        let answer = match next {
            Next::Write(answer) => answer,
            Next::Wait(answering) => unless_given_up(session, answering).await?,
            Next::Pass(mut asked) => {
                asked.protocol = request.protocol();
                Box::pin(self.pass(*asked, request.has_body, session, peer)).await?
            }
            // Whose turn has come isn't sent back.
            Next::Queue(..) => return Err(Gone),
        };
        self.write(session, answer, head, peer.settings.pace(), entry)
            .await
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
            let answering = Box::pin(self.answers.pass(asked));
            return unless_given_up(session, answering).await;
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
        entry.answered(&answer);
        let Answer {
            status,
            headers,
            body,
            ..
        } = answer;
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

/// What `waiting` brings, unless the client gives the request up first.
async fn unless_given_up<F: Future + Unpin>(
    session: &mut Session,
    mut waiting: F,
) -> Result<F::Output, Gone> {
    if let Poll::Ready(output) = poll!(&mut waiting) {
        return Ok(output);
    }
    tokio::select! {
        biased;
        output = waiting => Ok(output),
        () = session.given_up() => Err(Gone),
    }
}

fn admit(request: &Request, peer: &Peer, mounts: &Mounts) -> Result<Target, Refusal> {
    let target = &*request.target;
    if request.fields.len() > peer.settings.limits.header_fields {
        let what = "the header has too many fields";
        return Err(Refusal::new(Reason::HeadersTooLarge, target, what));
    }
    let raw = Raw {
        method: &request.method,
        target,
        authority: request.authority(),
        fields: &request.fields,
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
