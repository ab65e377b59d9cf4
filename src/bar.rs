//! How far a long command has come: a bar on a terminal, a plain line now and then elsewhere.

use std::time::{Duration, Instant};

use modcdn_core::units::ByteSize;

use crate::terminal::{Progress, error_lines, is_terminal};

/// How often a terminal's line is drawn anew, at most.
const REDRAW: Duration = Duration::from_millis(100);

/// How often there is a plain line.
const PLAIN: Duration = Duration::from_secs(10);

/// The bar's width.
const WIDTH: usize = 24;

/// See the module. On stderr: stdout is for results.
pub(crate) struct Bar {
    what: &'static str,
    unit: &'static str,
    line: Progress,
    on_terminal: bool,
    started: Instant,
    next: Instant,
    all: Amount,
}

/// A number of things, and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
}

impl Bar {
    /// A bar for `all` there is to do. `what` is being done to `unit`s.
    pub(crate) fn new(what: &'static str, unit: &'static str, all: Amount) -> Self {
        let on_terminal = is_terminal();
        let started = Instant::now();
        Self {
            what,
            unit,
            line: Progress::new(),
            on_terminal,
            started,
            next: if on_terminal {
                started
            } else {
                started + PLAIN
            },
            all,
        }
    }

    /// So much is done.
    pub(crate) fn show(&mut self, done: Amount) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + if self.on_terminal { REDRAW } else { PLAIN };
        let text = self.text(done, self.started.elapsed());
        if self.on_terminal {
            self.line.show(&text);
        } else {
            error_lines(&format!("modcdn: {text}"));
        }
    }

    /// Takes the bar away for a line of text.
    pub(crate) fn say(&mut self, text: &str) {
        self.line.show("");
        error_lines(text);
        self.next = Instant::now();
        if !self.on_terminal {
            self.next += PLAIN;
        }
    }

    fn text(&self, done: Amount, elapsed: Duration) -> String {
        let mut text = format!("{} ", self.what);
        if self.on_terminal {
            let filled = part(done.count, self.all.count, WIDTH as u64) as usize;
            text += &format!("[{}{}] ", "#".repeat(filled), " ".repeat(WIDTH - filled));
        }
        let percent = part(done.count, self.all.count, 100);
        let rate = (done.bytes as f64 / elapsed.as_secs_f64().max(0.001)) as u64;
        text + &format!(
            "{percent}%, {} of {} {}, {}, {}/s",
            done.count,
            self.all.count,
            self.unit,
            size(done.bytes),
            size(rate)
        )
    }
}

/// `done` of `all` as so many of `whole`.
fn part(done: u64, all: u64, whole: u64) -> u64 {
    (done * whole).checked_div(all).unwrap_or(whole).min(whole)
}

/// Bytes for a person.
pub(crate) fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_says_how_far_it_is_and_how_fast() {
        let all = Amount {
            count: 200,
            bytes: 0,
        };
        let mut bar = Bar::new("verifying", "bodies", all);
        let done = Amount {
            count: 50,
            bytes: 4 << 20,
        };
        bar.on_terminal = true;
        let text = bar.text(done, Duration::from_secs(2));
        assert_eq!(
            text,
            "verifying [######                  ] 25%, 50 of 200 bodies, 4.0 MiB, 2.0 MiB/s"
        );
        bar.on_terminal = false;
        let plain = bar.text(done, Duration::from_secs(2));
        assert_eq!(plain, "verifying 25%, 50 of 200 bodies, 4.0 MiB, 2.0 MiB/s");
    }

    #[test]
    fn nothing_to_do_is_all_done_and_more_than_all_is_all() {
        assert_eq!(part(0, 0, 100), 100);
        assert_eq!(part(300, 200, 100), 100);
    }
}
