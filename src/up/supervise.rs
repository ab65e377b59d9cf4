//! Brings nodes up, watches them, brings them down.
//!
//! Everything here runs on the main thread (see `child`): futures are joined, never spawned.

use std::cell::RefCell;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use tokio::time::{Instant, sleep, sleep_until};

use crate::failure::Failure;
use crate::roles::Role;
use crate::terminal::{Progress, notice};
use crate::up::backoff::Backoff;
use crate::up::child::{End, Program, Running};
use crate::up::plan::Node;
use crate::up::ready;
use crate::up::stop::Stop;

/// All nodes are ready within this time, or `up` gives up.
const READY_BOUND: Duration = Duration::from_secs(30);

/// How the start of a network ended.
pub(crate) enum Started<'a> {
    /// All nodes are ready.
    Ready(Vec<Running<'a>>),
    /// Somebody asked to stop before they were; nothing runs any more.
    Stopped,
}

/// Starts all nodes and waits until they are ready.
///
/// # Errors
/// A node can't be started, ends, or isn't ready in time. Nothing runs any more then.
pub(crate) async fn start<'a>(
    nodes: &'a [Node],
    program: &Program<'_>,
    stop: &mut Stop,
) -> Result<Started<'a>, Failure> {
    let mut running = Vec::with_capacity(nodes.len());
    let outcome = tokio::select! {
        outcome = bring_up(nodes, program, &mut running) => outcome.map(|()| true),
        () = stop.requested() => Ok(false),
    };
    match outcome {
        Ok(true) => Ok(Started::Ready(running)),
        Ok(false) => {
            stop_all(running, stop).await;
            Ok(Started::Stopped)
        }
        Err(failure) => {
            stop_all(running, stop).await;
            Err(failure)
        }
    }
}

/// Watches nodes until somebody asks to stop, then stops them. Dead ones are started again, if
/// `restart`.
///
/// # Errors
/// No node is left.
pub(crate) async fn watch(
    running: Vec<Running<'_>>,
    program: &Program<'_>,
    stop: &Stop,
    restart: bool,
) -> Result<(), Failure> {
    let announced = async {
        stop.clone().requested().await;
        notice(format_args!("stopping; once more to stop at once"));
        std::future::pending::<()>().await;
    };
    let nodes = running
        .into_iter()
        .map(|node| keep(node, program, stop.clone(), restart));
    tokio::select! {
        _ = join_all(nodes) => {}
        () = announced => {}
    }
    if stop.is_requested() {
        notice(format_args!("stopped"));
        return Ok(());
    }
    Err(Failure::Failed("no node is left".to_owned()))
}

async fn stop_all(running: Vec<Running<'_>>, stop: &Stop) {
    join_all(running.into_iter().map(|node| node.stop(stop.clone()))).await;
}

/// Starts nodes in their order, which ends with DNS. That one waits for all others: at its first
/// look it would find the edges dead, and doubt them for its first seconds.
async fn bring_up<'a>(
    nodes: &'a [Node],
    program: &Program<'_>,
    running: &mut Vec<Running<'a>>,
) -> Result<(), Failure> {
    let deadline = Instant::now() + READY_BOUND;
    for stage in nodes.chunk_by(|_, next| next.role() != Role::Dns) {
        let first = running.len();
        for node in stage {
            let child = Running::start(node, program).map_err(|error| {
                Failure::doing(format_args!("starting {}", node.title()), error)
            })?;
            running.push(child);
        }
        until_ready(&mut running[first..], deadline).await?;
    }
    Ok(())
}

/// Waits until all these nodes are ready.
async fn until_ready(running: &mut [Running<'_>], deadline: Instant) -> Result<(), Failure> {
    let names = running.iter().map(|running| running.node.name).collect();
    let waiting = Waiting::new(names);
    let waits = running.iter_mut().map(|running| async {
        let node = running.node;
        tokio::select! {
            end = running.ended() => Err(dead_at_start(running, &end)),
            () = ready::wait(node.admin) => {
                waiting.over_for(node.name);
                Ok(())
            }
        }
    });
    tokio::select! {
        all = try_join_all(waits) => return all.map(drop),
        () = sleep_until(deadline) => {}
    }
    let late = waiting.names.take();
    Err(too_late(running, &late).await)
}

fn dead_at_start(running: &Running<'_>, end: &End) -> Failure {
    let title = running.node.title();
    Failure::Failed(format!(
        "{title} {} before it was ready{}",
        end.how,
        running.last_words()
    ))
}

async fn too_late(running: &[Running<'_>], late: &[&str]) -> Failure {
    let mut text = format!("not ready within {} s:", READY_BOUND.as_secs());
    for running in running
        .iter()
        .filter(|running| late.contains(&running.node.name))
    {
        let why = ready::ask(running.node.admin)
            .await
            .err()
            .unwrap_or_default();
        text += &format!(
            "\n  {}: {why}{}",
            running.node.title(),
            running.last_words()
        );
    }
    Failure::Failed(text)
}

/// Whom we wait for, and the line that says so.
struct Waiting<'a> {
    names: RefCell<Vec<&'a str>>,
    progress: Progress,
}

impl<'a> Waiting<'a> {
    fn new(names: Vec<&'a str>) -> Self {
        let waiting = Self {
            names: RefCell::new(names),
            progress: Progress::new(),
        };
        waiting.show();
        waiting
    }

    fn over_for(&self, name: &str) {
        self.names.borrow_mut().retain(|other| *other != name);
        self.show();
    }

    fn show(&self) {
        let names = self.names.borrow();
        self.progress
            .show(&format!("waiting for {}", names.join(", ")));
    }
}

/// Watches one node until somebody asks to stop, or until it is dead for good.
async fn keep(mut running: Running<'_>, program: &Program<'_>, mut stop: Stop, restart: bool) {
    let mut backoff = Backoff::new();
    let mut ready_since = Some(Instant::now());
    loop {
        let end = tokio::select! {
            end = life(&mut running, &mut ready_since) => end,
            () = stop.requested() => return running.stop(stop).await,
        };
        let death = format!("{} (pid {}) {}", running.node.title(), running.pid, end.how);
        // Whoever killed it knows why; the log doesn't.
        let words = if end.by_somebody {
            String::new()
        } else {
            running.last_words()
        };
        if !restart {
            notice(format_args!("{death}{words}"));
            return;
        }
        let healthy = ready_since.map_or(Duration::ZERO, |since| since.elapsed());
        let wait = backoff.after(healthy);
        notice(format_args!(
            "{death}; starting it again in {} s{words}",
            wait.as_secs()
        ));
        running = tokio::select! {
            again = start_again(running.node, program, wait, &mut backoff) => again,
            () = stop.requested() => return,
        };
        ready_since = None;
    }
}

/// Follows a node to its end, and notes from when on it was ready.
async fn life(running: &mut Running<'_>, ready_since: &mut Option<Instant>) -> End {
    let (node, pid) = (running.node, running.pid);
    if ready_since.is_none() {
        tokio::select! {
            end = running.ended() => return end,
            () = ready::wait(node.admin) => {}
        }
        *ready_since = Some(Instant::now());
        notice(format_args!("{} is ready again (pid {pid})", node.title()));
    }
    running.ended().await
}

/// Starts a dead node, after a wait; again and again if even that fails.
async fn start_again<'a>(
    node: &'a Node,
    program: &Program<'_>,
    mut wait: Duration,
    backoff: &mut Backoff,
) -> Running<'a> {
    loop {
        sleep(wait).await;
        match Running::start(node, program) {
            Ok(running) => return running,
            Err(error) => {
                wait = backoff.after(Duration::ZERO);
                let (title, secs) = (node.title(), wait.as_secs());
                notice(format_args!(
                    "starting {title}: {error}; trying again in {secs} s"
                ));
            }
        }
    }
}
