//! The streams of a connection that are not over (RFC 9113 §5.1). Pure.
//!
//! What is answered at once never gets here: only a request that has to wait, or that has a body, has
//! a [`Stream`]. Of those that are over, the last few are remembered, so that what a client sent before
//! it knew is told from what it never should have sent.

use std::collections::{HashMap, VecDeque};
use std::task::Waker;

use bytes::Bytes;

use super::window::{Allowance, Overflow, Window};

/// Streams that are over and remembered.
const REMEMBERED: usize = 32;

/// One request and its answer.
#[derive(Debug)]
pub(crate) struct Stream {
    /// What we may send.
    pub(crate) send: Window,
    /// What the client may send.
    pub(crate) allowance: Allowance,
    /// The client has sent its last.
    pub(crate) ended: bool,
    /// It was reset, by the client ([`Over::Closed`]) or by us because of what came
    /// ([`Over::Abandoned`]): nothing more may be sent.
    pub(crate) gone: Option<Over>,
    /// Of the request's body: come, and not yet read.
    pub(crate) incoming: VecDeque<Bytes>,
    /// How long the body will be, where that is known, and how much of it has come.
    pub(crate) declared: Option<u64>,
    pub(crate) received: u64,
    /// Who waits for any of this to change.
    waiting: Option<Waker>,
}

impl Stream {
    pub(crate) fn new(send: Window, declared: Option<u64>, ended: bool) -> Stream {
        Stream {
            send,
            allowance: Allowance::new(),
            ended,
            gone: None,
            incoming: VecDeque::new(),
            declared,
            received: 0,
            waiting: None,
        }
    }

    /// Nothing more may be sent, and nothing will come.
    pub(crate) fn reset(&mut self, gone: Over) {
        (self.gone, self.ended) = (Some(gone), true);
        self.wake();
    }

    /// Has `waker` woken at the next change.
    pub(crate) fn wait(&mut self, waker: &Waker) {
        match &mut self.waiting {
            Some(waiting) => waiting.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    pub(crate) fn wake(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }
}

/// How a stream ended for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// Both sides were done, or the client reset it: what comes now is an error.
    Closed,
    /// We had enough before the client was done: what comes now is thrown away.
    Abandoned,
}

/// The streams.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    open: HashMap<u32, Stream>,
    over: VecDeque<(u32, Over)>,
    /// Streams that wait for the connection's window, in the order in which they came.
    blocked: VecDeque<u32>,
}

impl Streams {
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn insert(&mut self, id: u32, stream: Stream) {
        self.open.insert(id, stream);
    }

    pub(crate) fn get(&mut self, id: u32) -> Option<&mut Stream> {
        self.open.get_mut(&id)
    }

    /// The stream, unless it was reset.
    pub(crate) fn live(&mut self, id: u32) -> Option<&mut Stream> {
        self.get(id).filter(|stream| stream.gone.is_none())
    }

    /// Takes a stream out and remembers how it ended.
    pub(crate) fn end(&mut self, id: u32, over: Over) {
        if let Some(mut stream) = self.open.remove(&id) {
            stream.wake();
        }
        self.remember(id, over);
    }

    /// A stream that was over at once.
    pub(crate) fn remember(&mut self, id: u32, over: Over) {
        if self.over.len() == REMEMBERED {
            self.over.pop_front();
        }
        self.over.push_back((id, over));
    }

    /// How a stream ended, if that was lately.
    pub(crate) fn over(&self, id: u32) -> Option<Over> {
        if let Some(stream) = self.open.get(&id) {
            return stream.gone;
        }
        let found = self.over.iter().rev().find(|(over, _)| *over == id);
        found.map(|(_, over)| *over)
    }

    /// This stream waits for the connection's window.
    pub(crate) fn block(&mut self, id: u32) {
        if !self.blocked.contains(&id) {
            self.blocked.push_back(id);
        }
    }

    /// The connection's window has grown: those who wait for it have their turns in order. Who finds
    /// none left waits again, behind the others.
    pub(crate) fn unblock(&mut self) {
        for id in std::mem::take(&mut self.blocked) {
            if let Some(stream) = self.open.get_mut(&id) {
                stream.wake();
            }
        }
    }

    /// The client's initial window went from `old` to `new` (§6.9.2).
    ///
    /// # Errors
    /// One of the windows has become too large.
    pub(crate) fn adjust(&mut self, old: u32, new: u32) -> Result<(), Overflow> {
        for stream in self.open.values_mut() {
            stream.send.adjust(old, new)?;
            stream.wake();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_few_that_ended_are_remembered() {
        let mut streams = Streams::default();
        for id in (1..200).step_by(2) {
            streams.insert(id, Stream::new(Window::new(1), None, true));
            streams.end(
                id,
                if id % 4 == 1 {
                    Over::Closed
                } else {
                    Over::Abandoned
                },
            );
        }
        assert_eq!(streams.over(199), Some(Over::Abandoned));
        assert_eq!(streams.over(197), Some(Over::Closed));
        assert_eq!((streams.over(1), streams.len()), (None, 0));
    }
}
