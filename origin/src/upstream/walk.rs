//! The rules by which a chain is walked, and what is said when nobody had it. Pure.

use std::ops::ControlFlow;

use modcdn_core::refusal::{Reason, Refusal};

use super::chain::Link;

/// Why one upstream did not give what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It truly has no such thing: [`Reason::NotFound`] or [`Reason::Gone`].
    Absent(Refusal),
    /// It failed; a connection that broke may be tried once more.
    Failed {
        refusal: Refusal,
        connection_broke: bool,
    },
    /// The chain says `off` here.
    Off,
}

impl Trouble {
    /// A failure that trying again at once would not mend.
    pub(crate) fn failed(refusal: Refusal) -> Self {
        Self::Failed {
            refusal,
            connection_broke: false,
        }
    }

    /// What to tell of it where it is the only trouble.
    pub(crate) fn into_refusal(self, asked: &str) -> Refusal {
        match self {
            Self::Absent(refusal) | Self::Failed { refusal, .. } => refusal,
            Self::Off => off_refusal(asked),
        }
    }
}

/// Remembers what the upstreams asked so far said.
///
/// As the go command does, it tells the most useful trouble: an upstream's failure, the last one's
/// first, then "no such thing". Two differences, because our answer goes through one more chain, the
/// client's, where 404 means "ask the next": `direct` that truly has nothing doesn't undo a failure
/// before it, and an `off` that nobody was asked before is a prohibition (403). An `off` after upstreams
/// that truly had nothing adds nothing to their word.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    worst: Option<Trouble>,
}

impl Walk {
    /// Takes in what a link's upstream said; `Break` ends the walk.
    pub(crate) fn after(&mut self, link: &Link, trouble: Trouble) -> ControlFlow<()> {
        let goes_on = matches!(trouble, Trouble::Absent(_)) || link.any_error_goes_on;
        let keeps_earlier = match (&self.worst, &trouble) {
            (None, _) => false,
            (Some(_), Trouble::Off) => true,
            (Some(Trouble::Failed { .. }), Trouble::Absent(_)) => true,
            (Some(_), _) => false,
        };
        if !keeps_earlier {
            self.worst = Some(trouble);
        }
        if goes_on {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }

    /// What to tell those who asked for `asked`.
    pub(crate) fn verdict(self, asked: &str) -> Refusal {
        self.worst.unwrap_or(Trouble::Off).into_refusal(asked)
    }
}

fn off_refusal(asked: &str) -> Refusal {
    Refusal::new(
        Reason::Off,
        asked,
        "not stored, and the origin's upstream list says off: nothing may be fetched",
    )
    .hint("name an upstream in the origin's configuration, or bring the module into its store")
}

#[cfg(test)]
mod tests {
    use super::super::chain::UpstreamChain;
    use super::*;

    fn absent(who: &str) -> Trouble {
        Trouble::Absent(Refusal::new(Reason::NotFound, "m", who))
    }

    fn failed(who: &str) -> Trouble {
        Trouble::failed(Refusal::new(Reason::UpstreamStatus, "m", who))
    }

    /// Walks a chain whose upstreams say, in turn, `404`, `500`; returns who was asked and the
    /// verdict's reason and text.
    fn walk(chain: &str, says: &[u16]) -> (usize, Refusal) {
        let chain: UpstreamChain = chain.parse().unwrap();
        let mut walk = Walk::default();
        let mut says = says.iter();
        let mut asked = 0;
        for link in chain.links() {
            use crate::upstream::chain::Upstream;
            let trouble = match link.upstream {
                Upstream::Off => Trouble::Off,
                _ => {
                    asked += 1;
                    match says.next().unwrap() {
                        404 => absent(&asked.to_string()),
                        _ => failed(&asked.to_string()),
                    }
                }
            };
            if walk.after(link, trouble).is_break() {
                break;
            }
        }
        (asked, walk.verdict("m"))
    }

    #[test]
    fn the_table_of_the_go_command() {
        use Reason::{NotFound, Off, UpstreamStatus};
        let (a, b) = ("https://a.example", "https://b.example");
        for (chain, says, asked, reason, by) in [
            (format!("{a},{b}"), vec![404, 404], 2, NotFound, "2"),
            (format!("{a},{b}"), vec![404, 500], 2, UpstreamStatus, "2"),
            (format!("{a},{b}"), vec![500], 1, UpstreamStatus, "1"),
            (format!("{a}|{b}"), vec![500, 404], 2, UpstreamStatus, "1"),
            (format!("{a}|{b}"), vec![500, 500], 2, UpstreamStatus, "2"),
            (format!("{a}|{b}"), vec![404, 404], 2, NotFound, "2"),
            (
                format!("{a}|{b},{a}"),
                vec![500, 500],
                2,
                UpstreamStatus,
                "2",
            ),
            (format!("{a},off"), vec![404], 1, NotFound, "1"),
            (format!("{a}|off"), vec![500], 1, UpstreamStatus, "1"),
            ("off".to_owned(), vec![], 0, Off, "off"),
            ("direct".to_owned(), vec![404], 1, NotFound, "1"),
            (format!("{a},direct"), vec![404, 404], 2, NotFound, "2"),
            (format!("{a},direct"), vec![500], 1, UpstreamStatus, "1"),
            (
                format!("{a}|direct"),
                vec![500, 500],
                2,
                UpstreamStatus,
                "2",
            ),
            (
                format!("{a}|direct"),
                vec![500, 404],
                2,
                UpstreamStatus,
                "1",
            ),
        ] {
            let (n, refusal) = walk(&chain, &says);
            assert_eq!((n, refusal.reason), (asked, reason), "{chain} {says:?}");
            assert!(refusal.failed.contains(by), "{chain}: {}", refusal.failed);
        }
    }

    #[test]
    fn off_is_never_a_404() {
        assert_ne!(walk("off", &[]).1.reason.status(), 404);
    }
}
