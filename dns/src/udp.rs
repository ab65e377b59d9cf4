//! The UDP side: a thread a socket that receives a batch of queries in one call, answers them in
//! place, since an answer takes a microsecond and never waits for anything, and sends the answers
//! in another call.
//!
//! Nothing is shared between these threads but the map, the responder and counters, and nothing is
//! allocated for a query once buffers have grown to what answers need.

mod batch;

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use socket2::SockRef;
use tokio::sync::{oneshot, watch};

use crate::answer::{Answerer, Worker};
use crate::respond::Transport;
use batch::{Peer, Receiver, Sender, Wait};

/// What fits into a frame of Ethernet. No query is nearly as long; what is longer is cut by the
/// kernel and then malformed.
const MAX_QUERY: usize = 1472;

/// How long an answer may wait for room in the send buffer before it is dropped.
const SEND_WAIT: Duration = Duration::from_millis(100);

/// A thread looks this often whether it is to stop, should the wake-up not have reached it.
const LOOK_UP: Duration = Duration::from_secs(1);

/// Between two receive errors running, so that a broken socket doesn't eat a core.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// Batches that are still answered of what has arrived before the stop: more than any receive
/// buffer holds, but not whatever goes on arriving.
const LAST_BATCHES: usize = 1024;

/// How one socket is served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// The most queries received at once.
    pub(crate) batch: usize,
    /// Which of the cores that this process may use the thread is kept on; none: the kernel's choice.
    pub(crate) core: Option<usize>,
}

/// Starts a thread that answers on one socket. What comes back waits for the stop and then for the
/// thread; dropped, it ends the thread too.
///
/// # Errors
/// If there is no thread to be had, or the socket can't be set up.
pub(crate) fn start(
    socket: UdpSocket,
    setup: Setup,
    answerer: Arc<Answerer>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    // Waiting is the kernel's part here, unlike with sockets that a runtime polls.
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(LOOK_UP))?;
    socket.set_write_timeout(Some(SEND_WAIT))?;
    let shared = Arc::new(Shared {
        socket,
        ending: AtomicBool::new(false),
    });
    let end = EndOnDrop(shared.clone());
    let (running, ended) = oneshot::channel::<()>();
    thread::Builder::new()
        .name("dns-udp".to_owned())
        .spawn(move || {
            keep_on(setup.core);
            Loop::new(&shared, &answerer, setup.batch).run();
            // Whoever waits for the end may bind the port again: the socket is closed before.
            drop(shared);
            drop(running);
        })?;
    Ok(async move {
        let _ = stop.wait_for(|stop| *stop).await;
        drop(end);
        // Nothing is ever sent: the channel closes when the thread has ended.
        let _ = ended.await;
    })
}

struct Shared {
    socket: UdpSocket,
    ending: AtomicBool,
}

struct EndOnDrop(Arc<Shared>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.ending.store(true, Ordering::Release);
        // On a socket without a peer this is an error, but whoever waits for a datagram wakes up.
        let _ = SockRef::from(&self.0.socket).shutdown(std::net::Shutdown::Read);
    }
}

/// Keeps the calling thread on the core of this index among those it may use.
fn keep_on(core: Option<usize>) {
    let Some(index) = core else { return };
    let pinned = sched_getaffinity(None).and_then(|allowed| {
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let Some(core) = cores.nth(index % allowed.count().max(1) as usize) else {
            return Ok(());
        };
        let mut only = CpuSet::new();
        only.set(core);
        sched_setaffinity(None, &only)
    });
    if let Err(error) = pinned {
        tracing::warn!(%error, index, "a udp thread can't be kept on one core");
    }
}

struct Loop<'a> {
    shared: &'a Shared,
    worker: Worker<'a>,
    receiver: Receiver,
    sender: Sender,
    answers: Vec<Answer>,
}

/// Room for the answer to the datagram of the same place, and whether there is one.
#[derive(Clone, Default)]
struct Answer {
    bytes: Vec<u8>,
    is_due: bool,
}

impl<'a> Loop<'a> {
    fn new(shared: &'a Shared, answerer: &'a Answerer, batch: usize) -> Self {
        Self {
            shared,
            worker: Worker::new(answerer, Transport::Udp),
            receiver: Receiver::new(batch, MAX_QUERY),
            sender: Sender::new(batch),
            answers: vec![Answer::default(); batch],
        }
    }

    fn run(&mut self) {
        while !self.is_ending() {
            match self
                .receiver
                .receive(self.shared.socket.as_fd(), Wait::ForOne)
            {
                Ok(_) => self.answer(),
                Err(error) if is_nothing(&error) => {}
                Err(error) => {
                    tracing::debug!(%error, "udp receive failed");
                    thread::sleep(ERROR_PAUSE);
                }
            }
        }
        for _ in 0..LAST_BATCHES {
            match self
                .receiver
                .receive(self.shared.socket.as_fd(), Wait::Never)
            {
                Ok(1..) => self.answer(),
                _ => return,
            }
        }
    }

    fn is_ending(&self) -> bool {
        self.shared.ending.load(Ordering::Acquire)
    }

    fn answer(&mut self) {
        let mut round = self.worker.round();
        for ((query, peer), answer) in self.receiver.datagrams().zip(&mut self.answers) {
            let peer = peer.ip();
            answer.is_due = peer.is_some_and(|peer| round.answer(query, peer, &mut answer.bytes));
        }
        drop(round);
        self.send();
    }

    fn send(&mut self) {
        let mut done = 0;
        loop {
            let mut due = due(&self.receiver, &self.answers).skip(done).peekable();
            if due.peek().is_none() {
                return;
            }
            match self.sender.send(self.shared.socket.as_fd(), due) {
                Ok(sent) => done += sent,
                Err(_) => {
                    self.worker.metrics().send_errors.inc();
                    done += 1;
                }
            }
        }
    }
}

fn due<'a>(
    receiver: &'a Receiver,
    answers: &'a [Answer],
) -> impl Iterator<Item = (&'a [u8], Option<&'a Peer>)> {
    let both = receiver.datagrams().zip(answers);
    both.filter_map(|((_, peer), answer)| {
        let due = (answer.bytes.as_slice(), Some(peer));
        answer.is_due.then_some(due)
    })
}

/// Nothing came in time, or a signal did.
fn is_nothing(error: &io::Error) -> bool {
    let kind = error.kind();
    kind == io::ErrorKind::WouldBlock || kind == io::ErrorKind::Interrupted
}
