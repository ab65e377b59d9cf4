//! One query answered, counted and logged: what UDP and TCP share.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use modcdn_core::telemetry::{AccessLog, timestamp};
use serde::Serialize;

use crate::metrics::{Metrics, code_label, type_label};
use crate::respond::{Ask, Limited, Note, Responder};
use crate::steer::Map;
use crate::steering::Steering;

/// Answers queries with the map in use.
pub(crate) struct Answerer {
    pub(crate) node: String,
    pub(crate) responder: Responder,
    pub(crate) steering: Arc<Steering>,
    pub(crate) metrics: Metrics,
    pub(crate) access_log: AccessLog,
}

impl Answerer {
    /// Answers one message into `out`; false if nothing may be sent.
    ///
    /// A panic is a bug, and costs the one query that found it.
    pub(crate) fn answer(&self, query: &[u8], ask: &Ask, out: &mut Vec<u8>) -> bool {
        catch_unwind(AssertUnwindSafe(|| self.answer_once(query, ask, out))).unwrap_or_else(|_| {
            self.metrics.panics.inc();
            false
        })
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn answer_once(&self, query: &[u8], ask: &Ask, out: &mut Vec<u8>) -> bool {
        let map = self.steering.current();
        let Some(note) = self.responder.respond(query, ask, &map, out) else {
            self.metrics.ignored.inc();
            return false;
        };
        let picked = note
            .choice
            .map(|choice| map.answer(choice.answer).name.as_str());
        self.metrics.answered(ask.transport, &note, picked);
        if self.access_log.is_on() {
            self.access_log
                .write(&self.line(&note, ask, &map, out.len()));
        }
        // Nothing is there to send if the asker's network had its share.
        !out.is_empty()
    }

    fn line<'a>(&'a self, note: &Note, ask: &Ask, map: &'a Map, bytes: usize) -> Line<'a> {
        let question = note.question.as_ref();
        Line {
            ts: timestamp(),
            role: "dns",
            name: &self.node,
            client: ask.peer.to_string(),
            protocol: ask.transport.name(),
            subnet: note.subnet.map(|subnet| subnet.to_string()),
            query: question.map(|q| q.name.to_ascii()),
            kind: question.map(|q| type_label(q.kind.into())),
            rcode: code_label(note.code.into()),
            bytes,
            limited: note.limited.map(Limited::name),
            pop: note
                .choice
                .map(|choice| map.answer(choice.answer).name.as_str()),
            why: note.choice.map(|choice| choice.source.name()),
        }
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
}
