//! A body on its way from an upstream.
//!
//! It ends well only if it is as long as was announced and no longer than such a thing may be;
//! every piece comes within the stall limit. Whatever else happens is a [`Trouble`].

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use modcdn_core::refusal::{Reason, Refusal};
use modcdn_core::units::ByteSize;
use prometheus::IntCounter;
use tokio::time::timeout;

use super::walk::Trouble;

/// The pieces as the transport delivers them; an error says what broke.
pub(crate) type Pieces = BoxStream<'static, Result<Bytes, String>>;

/// See the module.
pub(crate) struct Body {
    pieces: Pieces,
    announced: Option<u64>,
    seen: u64,
    rules: Rules,
}

/// What a body is held to, and how its faults are told.
pub(crate) struct Rules {
    /// The longest it may be, in bytes.
    pub(crate) limit: u64,
    /// The longest wait for a piece.
    pub(crate) stall: Duration,
    /// What was asked, for a person.
    pub(crate) asked: String,
    /// Who sends it, for a person.
    pub(crate) sender: String,
    /// Where received bytes are counted.
    pub(crate) received: IntCounter,
}

impl Body {
    /// A body that is announced with this length, if any.
    ///
    /// # Errors
    /// If the announced length is over the limit already.
    pub(crate) fn new(
        pieces: Pieces,
        announced: Option<u64>,
        rules: Rules,
    ) -> Result<Self, Trouble> {
        if announced.is_some_and(|len| len > rules.limit) {
            return Err(rules.too_large());
        }
        Ok(Self {
            pieces,
            announced,
            seen: 0,
            rules,
        })
    }

    /// The announced length.
    pub(crate) fn announced(&self) -> Option<u64> {
        self.announced
    }

    /// The next piece, never empty; `None` after a good end. Nothing is lost if the future is
    /// dropped before it is ready.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Trouble> {
        loop {
            let piece = match timeout(self.rules.stall, self.pieces.next()).await {
                Ok(Some(Ok(piece))) => piece,
                Ok(Some(Err(fault))) => return Err(self.rules.broken(&fault)),
                Ok(None) => return self.end(),
                Err(_) => return Err(self.rules.stalled()),
            };
            self.seen += piece.len() as u64;
            self.rules.received.inc_by(piece.len() as u64);
            if self.seen > self.rules.limit {
                return Err(self.rules.too_large());
            }
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
    }

    fn end(&self) -> Result<Option<Bytes>, Trouble> {
        match self.announced {
            Some(len) if len != self.seen => {
                let fault = format!("ended after {} of {len} bytes", self.seen);
                Err(self.rules.broken(&fault))
            }
            _ => Ok(None),
        }
    }

    /// The whole body, in memory.
    pub(crate) async fn whole(mut self) -> Result<Bytes, Trouble> {
        let Some(first) = self.next().await? else {
            return Ok(Bytes::new());
        };
        let Some(second) = self.next().await? else {
            return Ok(first);
        };
        let mut whole = BytesMut::from(first);
        whole.extend_from_slice(&second);
        while let Some(piece) = self.next().await? {
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }
}

impl Rules {
    fn too_large(&self) -> Trouble {
        let limit = ByteSize::b(self.limit);
        let failed = format!(
            "{} sends more than the {limit} that are allowed",
            self.sender
        );
        let refusal = Refusal::new(Reason::UpstreamTooLarge, &self.asked, failed)
            .hint("the origin's limits.max_* say how much");
        Trouble::failed(refusal)
    }

    fn stalled(&self) -> Trouble {
        let failed = format!(
            "{} sent nothing for {:?} in the middle of the body",
            self.sender, self.stall
        );
        let refusal = Refusal::new(Reason::UpstreamTimeout, &self.asked, failed);
        Trouble::failed(refusal.hint("try again; if it stays so, look at the upstream"))
    }

    fn broken(&self, fault: &str) -> Trouble {
        let failed = format!(
            "{} broke off in the middle of the body: {fault}",
            self.sender
        );
        Trouble::Failed {
            refusal: Refusal::new(Reason::UpstreamBroken, &self.asked, failed).hint("try again"),
            connection_broke: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    fn body(
        pieces: Vec<Result<&'static str, &str>>,
        announced: Option<u64>,
    ) -> Result<Body, Trouble> {
        let pieces: Vec<Result<Bytes, String>> = pieces
            .into_iter()
            .map(|p| p.map(Bytes::from).map_err(str::to_owned))
            .collect();
        let rules = Rules {
            limit: 10,
            stall: Duration::from_millis(20),
            asked: "m".to_owned(),
            sender: "up.example".to_owned(),
            received: IntCounter::new("x", "x").unwrap(),
        };
        Body::new(stream::iter(pieces).boxed(), announced, rules)
    }

    fn reason(trouble: Trouble) -> Reason {
        match trouble {
            Trouble::Failed { refusal, .. } => refusal.reason,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_body_of_the_announced_length_is_whole() {
        for announced in [None, Some(5)] {
            let body = body(vec![Ok("ab"), Ok(""), Ok("cd"), Ok("e")], announced).unwrap();
            assert_eq!(body.whole().await.unwrap(), "abcde");
        }
    }

    #[tokio::test]
    async fn short_long_and_broken_bodies_fail() {
        for (pieces, announced, expected) in [
            (vec![Ok("abc")], Some(4), Reason::UpstreamBroken),
            (vec![Ok("abc")], Some(2), Reason::UpstreamBroken),
            (vec![Ok("abc"), Err("reset")], None, Reason::UpstreamBroken),
            (
                vec![Ok("abcdef"), Ok("ghijk")],
                None,
                Reason::UpstreamTooLarge,
            ),
        ] {
            let trouble = body(pieces, announced).unwrap().whole().await.unwrap_err();
            assert_eq!(reason(trouble), expected);
        }
        let Err(trouble) = body(vec![], Some(11)) else {
            panic!("taken")
        };
        assert_eq!(reason(trouble), Reason::UpstreamTooLarge);
    }

    #[tokio::test]
    async fn silence_is_a_timeout() {
        let mut body = body(vec![], None).unwrap();
        body.pieces = stream::pending().boxed();
        assert_eq!(
            reason(body.next().await.unwrap_err()),
            Reason::UpstreamTimeout
        );
    }
}
