//! A running edge: the admin listener, what an operator tells the process, and the end.
//!
//! SIGHUP reloads (`reload`); now and then the certificate's files are looked at. SIGUSR2 starts this
//! command again with `--upgrade`, and the new process takes over (`upgrade`).
//!
//! End, at SIGTERM or SIGINT: `/-/healthz` and `/readyz` say 503, listeners close, connections finish
//! what is in flight. After a handover it is the same, but nothing says 503: the new process serves.
//! When the last connection is gone, or after `timeouts.shutdown`, `supervise` returns; a second
//! signal makes it return at once. Pingora's own ending (a fixed sleep) is never waited for: its
//! threads end with the process.

use std::ffi::OsStr;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::process::Command;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use modcdn_core::admin::{self, Admin};

use crate::engine::Engine;
use crate::front::drain::Drain;
use crate::reload::Reload;
use crate::systemd;
use crate::upgrade::{Handover, Offer, Takeover};

/// How long the access log's writer may take for the last lines.
const LAST_LINES: Duration = Duration::from_millis(50);

/// Makes a new process take over.
const UPGRADE: &str = "--upgrade";

/// Everything that is started, and what can happen to it.
pub(super) struct Running<'a> {
    pub(super) reload: Reload<'a, Arc<Engine>>,
    pub(super) admin: Arc<Admin>,
    pub(super) admin_socket: TcpListener,
    /// Whom this process takes over from.
    pub(super) takeover: Option<Takeover>,
    /// For the one that takes over from it.
    pub(super) handover: Handover,
}

/// Why an edge ends.
enum Told {
    /// A signal.
    End,
    /// A new process serves.
    HandedOver,
}

impl Running<'_> {
    /// Runs the admin listener, does what it is told, and ends the edge.
    ///
    /// # Errors
    /// The system gives no runtime or signal handlers.
    pub(super) fn supervise(self) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.until_ended())
    }

    async fn until_ended(self) -> io::Result<()> {
        let mut reload = self.reload;
        let mut signals = Signals::new()?;
        let listener = tokio::net::TcpListener::from_std(self.admin_socket)?;
        let (stop_admin, stopped) = oneshot::channel::<()>();
        let stopped = async { drop(stopped.await) };
        tokio::spawn(admin::serve(listener, Arc::clone(&self.admin), stopped));
        self.admin.readiness().set_ready();
        tracing::info!("edge is ready");
        if let Some(Err(error)) = self.takeover.map(Takeover::ready) {
            tracing::warn!(%error, "the old process did not say good-bye");
        }
        systemd::ready();
        let mut offer = offer(self.handover, &reload);
        let told = until_told(&mut signals, &mut reload, &mut offer).await;
        if let Some(offer) = offer {
            offer.withdraw();
        }
        let drain = &reload.service.drain;
        match told {
            Told::End => {
                self.admin.readiness().set_unready("going down");
                drain.begin();
            }
            Told::HandedOver => {
                drop(stop_admin);
                drain.hand_over();
            }
        }
        let grace = reload.config.timeouts.shutdown.get();
        finish(&mut signals, drain, grace).await;
        sleep(LAST_LINES).await;
        Ok(())
    }
}

/// Offers to hand over, if it may. An edge that can't serves all the same.
fn offer(handover: Handover, reload: &Reload<'_, Arc<Engine>>) -> Option<Offer> {
    if !reload.config.upgrade.enabled {
        return None;
    }
    let path = reload.config.upgrade_socket();
    match handover.offer(&path) {
        Ok(offer) => Some(offer),
        Err(error) => {
            let path = path.display();
            tracing::warn!(%path, %error, "no upgrade without a restart: can't listen there");
            None
        }
    }
}

/// What an operator tells the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    upgrade: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }

    /// SIGTERM or SIGINT.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Does what it is told, and looks at the certificate now and then, until the end is wanted.
async fn until_told(
    signals: &mut Signals,
    reload: &mut Reload<'_, Arc<Engine>>,
    offer: &mut Option<Offer>,
) -> Told {
    loop {
        let pause = reload.config.tls.reload.get();
        tokio::select! {
            _ = signals.hangup.recv() => reload.run(SystemTime::now()),
            () = sleep(pause) => reload.look_at_certificate(SystemTime::now()),
            () = taken(offer) => return Told::HandedOver,
            _ = signals.upgrade.recv() => match offer {
                Some(_) => start_successor(),
                None => tracing::warn!("SIGUSR2, but nobody can take over here: see upgrade"),
            },
            _ = signals.terminate.recv() => return Told::End,
            _ = signals.interrupt.recv() => return Told::End,
        }
    }
}

/// Ends when a new process has taken over.
async fn taken(offer: &mut Option<Offer>) {
    if let Some(waiting) = offer {
        if (&mut waiting.taken).await.is_ok() {
            return;
        }
        // Its thread is gone: nobody can take over any more.
        *offer = None;
    }
    std::future::pending::<()>().await;
}

/// Starts this very command again, to take over.
fn start_successor() {
    let mut words = std::env::args_os();
    let Some(program) = words.next() else {
        return;
    };
    let others = words.filter(|word| word != OsStr::new(UPGRADE));
    match Command::new(program).args(others).arg(UPGRADE).spawn() {
        Ok(mut child) => {
            tracing::info!(pid = child.id(), "new process started to take over");
            tokio::spawn(async move {
                if let Ok(status) = child.wait().await {
                    tracing::error!(%status, "the new process ended before this one");
                }
            });
        }
        Err(error) => tracing::error!(%error, "no new process to take over"),
    }
}

/// Waits until nothing is open, `grace` is over, or a second signal comes.
async fn finish(signals: &mut Signals, drain: &Drain, grace: Duration) {
    tracing::info!("draining");
    tokio::select! {
        ended = timeout(grace, drain.finished()) => {
            if ended.is_err() {
                tracing::warn!("requests were still in flight after timeouts.shutdown");
            }
        }
        () = signals.end() => {}
    }
}
