//! Who says when to stop: signals, told to everything that waits.

use std::convert::Infallible;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// How far stopping has come. Only ever goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
    /// The first Ctrl-C or SIGTERM: finish what is under way.
    Stopping,
    /// The second one: now.
    Killing,
}

/// Hears the signals.
#[derive(Debug)]
pub(crate) struct Stopper {
    interrupt: Signal,
    terminate: Signal,
    phase: watch::Sender<Phase>,
}

/// Hears of the signals.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Receiver<Phase>);

impl Stopper {
    /// From now on SIGINT and SIGTERM are ours.
    ///
    /// # Errors
    /// The signals can't be had.
    pub(crate) fn install() -> io::Result<(Self, Stop)> {
        let (phase, stop) = watch::channel(Phase::Running);
        let stopper = Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            phase,
        };
        Ok((stopper, Stop(stop)))
    }

    /// Passes signals on, for ever.
    pub(crate) async fn listen(mut self) -> Infallible {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
            }
            self.phase.send_modify(|phase| {
                *phase = match phase {
                    Phase::Running => Phase::Stopping,
                    Phase::Stopping | Phase::Killing => Phase::Killing,
                };
            });
        }
    }
}

impl Stop {
    /// Whether anybody has asked to stop.
    pub(crate) fn is_requested(&self) -> bool {
        *self.0.borrow() >= Phase::Stopping
    }

    /// Returns once somebody asks to stop.
    pub(crate) async fn requested(&mut self) {
        self.reached(Phase::Stopping).await;
    }

    /// Returns once somebody asks for the second time.
    pub(crate) async fn insisted(&mut self) {
        self.reached(Phase::Killing).await;
    }

    async fn reached(&mut self, wanted: Phase) {
        if self.0.wait_for(|phase| *phase >= wanted).await.is_err() {
            // The stopper is gone, so nobody can ask any more.
            std::future::pending::<()>().await;
        }
    }
}
