//! One query answered, counted and logged: what UDP and TCP share.

use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use modcdn_core::telemetry::timestamp;
use serde::Serialize;

use crate::config::Tcp;
use crate::fast::{Fast, Table, Tally};
use crate::metrics::{Metrics, code_label, type_label};
use crate::querylog::QueryLog;
use crate::respond::{Ask, Limited, Moment, Note, Transport};
use crate::snapshot::{Published, Snapshot};

/// Answers queries with the snapshot in use.
pub(crate) struct Answerer {
    pub(crate) published: Arc<Published>,
    pub(crate) metrics: Metrics,
    pub(crate) access_log: ArcSwap<QueryLog>,
    pub(crate) fast: Fast,
}

/// Who answers: one a socket or connection.
pub(crate) struct Worker<'a> {
    answerer: &'a Answerer,
    transport: Transport,
    tally: Tally,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(answerer: &'a Answerer, transport: Transport) -> Self {
        Self {
            answerer,
            transport,
            tally: Tally::default(),
        }
    }

    /// Begins to answer what has come at one time: with one snapshot, and counted together.
    pub(crate) fn round(&mut self) -> Round<'_> {
        Round {
            snapshot: self.answerer.published.load(),
            access_log: self.answerer.access_log.load(),
            at: Moment::now(),
            table: self.answerer.fast.table(),
            answerer: self.answerer,
            transport: self.transport,
            tally: &mut self.tally,
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.answerer.metrics
    }
}

/// Queries that are answered at one time. What was answered is counted when it is dropped.
pub(crate) struct Round<'a> {
    answerer: &'a Answerer,
    transport: Transport,
    snapshot: Guard<Arc<Snapshot>>,
    access_log: Guard<Arc<QueryLog>>,
    at: Moment,
    table: Guard<Arc<Table>>,
    tally: &'a mut Tally,
}

impl Round<'_> {
    /// Answers one message into `out`; false if nothing may be sent.
    ///
    /// A panic is a bug, and costs the one query that found it.
    pub(crate) fn answer(&mut self, query: &[u8], peer: IpAddr, out: &mut Vec<u8>) -> bool {
        catch_unwind(AssertUnwindSafe(|| self.answer_once(query, peer, out))).unwrap_or_else(|_| {
            self.answerer.metrics.panics.inc();
            false
        })
    }

    fn answer_once(&mut self, query: &[u8], peer: IpAddr, out: &mut Vec<u8>) -> bool {
        let answerer = self.answerer;
        let ask = Ask {
            peer,
            transport: self.transport,
            at: self.at,
        };
        let on = &*self.snapshot;
        // A line of the log tells more than is known on the short way.
        if self.access_log.takes() {
            let note = answerer.answer(query, &ask, on, out);
            if let Some(note) = &note {
                let sample = self.access_log.sample();
                let line = Line::of(note, &ask, on, out.len(), sample);
                self.access_log.write(&line);
            }
            return note.is_some() && !out.is_empty();
        }
        if let Some(hit) = self.table.answer(query, &ask, on, out) {
            self.tally.count(hit);
            return true;
        }
        let Some(note) = answerer.answer(query, &ask, on, out) else {
            return false;
        };
        let answer = (&note, out.as_slice());
        if answerer
            .fast
            .learn(query, &ask, on, answer, &answerer.metrics)
        {
            self.tally.settle(&self.table, self.transport);
            self.table = answerer.fast.table();
        }
        // Nothing is there to send if the asker's network had its share.
        !out.is_empty()
    }

    fn settle(&mut self) {
        self.tally.settle(&self.table, self.transport);
    }
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        self.settle();
    }
}

impl Answerer {
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Limits of TCP connections, now.
    pub(crate) fn tcp(&self) -> Tcp {
        self.published.load().responder.settings().tcp
    }

    /// The long way.
    fn answer(&self, query: &[u8], ask: &Ask, on: &Snapshot, out: &mut Vec<u8>) -> Option<Note> {
        let Some(note) = on.respond(query, ask, out) else {
            self.metrics.ignored.inc();
            return None;
        };
        let picked = note
            .choice
            .map(|choice| on.map.answer(choice.answer).name.as_str());
        self.metrics.answered(ask.transport, &note, picked);
        Some(note)
    }
}

/// A line of the access log.
#[derive(Serialize)]
struct Line<'a> {
    ts: String,
    role: &'static str,
    name: &'a str,
    client: String,
    protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subnet: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    rcode: &'static str,
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    limited: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pop: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    map: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sample: Option<u32>,
}

impl<'a> Line<'a> {
    fn of(note: &Note, ask: &Ask, on: &'a Snapshot, bytes: usize, sample: Option<u32>) -> Self {
        let question = note.question.as_ref();
        let choice = note.choice.as_ref();
        Self {
            ts: timestamp(),
            role: "dns",
            name: on
                .responder
                .settings()
                .identity
                .as_deref()
                .unwrap_or_default(),
            client: ask.peer.to_string(),
            protocol: ask.transport.name(),
            subnet: note.subnet.map(|subnet| subnet.to_string()),
            query: question.map(|q| q.name.to_ascii()),
            kind: question.map(|q| type_label(q.kind.into())),
            rcode: code_label(note.code.into()),
            bytes,
            limited: note.limited.map(Limited::name),
            pop: choice.map(|choice| on.map.answer(choice.answer).name.as_str()),
            why: choice.map(|choice| choice.source.name()),
            via: choice.map(|choice| choice.via.name()),
            scope: choice.map(|choice| choice.scope),
            map: choice.map(|_| on.map.version()),
            sample,
        }
    }
}
