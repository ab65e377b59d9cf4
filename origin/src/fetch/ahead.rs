//! Fetching what a go command asks for next, beside what it asks for now.
//!
//! Whoever asks for a version's `.mod` asks for its `.info` later, in `go mod download` one after the
//! other: far from an upstream that is most of the time of a cold build. A `.zip` is asked for after
//! both. Zips themselves are never fetched ahead: half of all modules of a graph have none that is needed.

use std::sync::Arc;

use modcdn_core::goproxy::Request;
use tokio::sync::OwnedSemaphorePermit;

use super::{Engine, Place};

/// The right to a fetch that nobody asked for.
pub(super) struct Ahead {
    _turn: OwnedSemaphorePermit,
    place: Place,
}

impl Engine {
    /// Starts to fetch the others of a public version that is being fetched, as far as places are
    /// free. Nobody waits for them; whoever asks joins.
    pub(super) fn fetch_ahead(self: &Arc<Self>, request: &Request) {
        if self.is_private(request) {
            return;
        }
        for sibling in siblings(request) {
            let path = sibling.path();
            if self.refused(&path).is_some() {
                continue;
            }
            let Some(ahead) = self.turn_ahead() else {
                return;
            };
            let engine = self.clone();
            self.flights.start(&path, |landing| async move {
                let Ahead { _turn, place } = ahead;
                if engine.look_again(&sibling, &landing).await {
                    engine.bring(&sibling, place, landing).await;
                }
            });
        }
    }

    /// `None` where what is asked for needs all there is.
    fn turn_ahead(&self) -> Option<Ahead> {
        let turn = self.ahead.clone().try_acquire_owned().ok()?;
        let place = self.places.clone().try_acquire_owned().ok()?;
        Some(Ahead {
            _turn: turn,
            place: Place::new(place, &self.metrics),
        })
    }
}

/// The small bodies of the same version.
fn siblings(request: &Request) -> Vec<Request> {
    match request {
        Request::Info(module, version) => vec![Request::Mod(module.clone(), version.clone())],
        Request::Mod(module, version) => vec![Request::Info(module.clone(), version.clone())],
        Request::Zip(module, version) => vec![
            Request::Info(module.clone(), version.clone()),
            Request::Mod(module.clone(), version.clone()),
        ],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_small_bodies_and_a_zip() {
        let parse = |path| Request::parse(path).unwrap();
        let paths = |path| -> Vec<String> {
            let siblings = siblings(&parse(path));
            siblings.iter().map(Request::path).collect()
        };
        let (info, go_mod) = (
            "/a.example/!m/@v/v1.0.0.info",
            "/a.example/!m/@v/v1.0.0.mod",
        );
        assert_eq!(paths(info), [go_mod]);
        assert_eq!(paths(go_mod), [info]);
        assert_eq!(paths("/a.example/!m/@v/v1.0.0.zip"), [info, go_mod]);
        assert!(paths("/a.example/!m/@v/list").is_empty());
        assert!(paths("/a.example/!m/@latest").is_empty());
    }
}
