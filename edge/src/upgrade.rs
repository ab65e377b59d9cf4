//! A new process takes over without a failed request.
//!
//! A running edge listens on a Unix socket (`upgrade.socket`, mode 0600, for its own user and root).
//! `modcdn edge --config FILE --upgrade` connects to it, and the two talk in whole messages
//! (`SOCK_SEQPACKET`):
//!
//! ```text
//! new → old   modcdn-upgrade 1
//! old → new   socket clear 0.0.0.0:8080    one for each listening socket, with its descriptor
//! old → new   sockets-end
//!             the new one reads certificate and logs: what can fail, fails here
//! new → old   retire
//! old → new   retired                      it writes nothing more into the store
//!             the new one opens the store and accepts connections beside the old one
//! new → old   ready
//! old → new   goodbye                      it drains and ends
//! ```
//! Both have the same sockets, with the same queues of connections: none is refused or lost.
//!
//! Failure rule: a new process that fails, dies or takes longer than `upgrade.wait` before "ready"
//! leaves the old one serving. After "retire" the old one keeps nothing new, and `/readyz` says so,
//! until another attempt or a restart.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, Permissions};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg, sockopt,
};
use rustix::process::geteuid;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::sync::oneshot;

/// The first word, and the version of the conversation.
const HELLO: &str = "modcdn-upgrade 1";
const SOCKETS_END: &str = "sockets-end";
const RETIRE: &str = "retire";
const RETIRED: &str = "retired";
const READY: &str = "ready";
const GOODBYE: &str = "goodbye";

/// The longest message.
const MESSAGE: usize = 256;

/// What went wrong between two processes.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// Nobody listens there.
    #[error("no running edge to take over from at {socket}: {error}; start without --upgrade")]
    Nobody {
        /// The Unix socket.
        socket: String,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The other process is gone, too slow, or of another user.
    #[error("the other process: {0}")]
    Lost(#[from] io::Error),
    /// The other process said something that makes no sense here.
    #[error("the other process said {said:?} instead of {expected:?}")]
    Unexpected {
        /// What it said.
        said: String,
        /// What should have come.
        expected: &'static str,
    },
}

/// What a listening socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    Clear,
    Tls,
    Admin,
}

impl Purpose {
    const ALL: [Purpose; 3] = [Purpose::Clear, Purpose::Tls, Purpose::Admin];

    fn name(self) -> &'static str {
        match self {
            Purpose::Clear => "clear",
            Purpose::Tls => "tls",
            Purpose::Admin => "admin",
        }
    }
}

/// A listening socket's place, as a message names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) purpose: Purpose,
    pub(crate) address: SocketAddr,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "socket {} {}", self.purpose.name(), self.address)
    }
}

impl FromStr for Place {
    type Err = UpgradeError;

    fn from_str(text: &str) -> Result<Place, UpgradeError> {
        let parsed = || {
            let (name, address) = text.strip_prefix("socket ")?.split_once(' ')?;
            Some(Place {
                purpose: Purpose::ALL.into_iter().find(|p| p.name() == name)?,
                address: address.parse().ok()?,
            })
        };
        parsed().ok_or_else(|| UpgradeError::Unexpected {
            said: text.to_owned(),
            expected: "a socket",
        })
    }
}

/// The new process' side.
pub(crate) struct Takeover {
    old: Channel,
    sockets: HashMap<Place, Vec<TcpListener>>,
}

impl Takeover {
    /// Asks the running edge for its sockets.
    ///
    /// # Errors
    /// [`UpgradeError`]; the running edge goes on as before.
    pub(crate) fn begin(path: &Path, wait: Duration) -> Result<Takeover, UpgradeError> {
        let old = Channel::connect(path, wait).map_err(|error| UpgradeError::Nobody {
            socket: path.display().to_string(),
            error,
        })?;
        old.say(HELLO)?;
        let mut sockets: HashMap<Place, Vec<TcpListener>> = HashMap::new();
        loop {
            match old.hear()? {
                (said, Some(descriptor)) => {
                    let places = sockets.entry(said.parse()?).or_default();
                    places.push(TcpListener::from(descriptor));
                }
                (said, None) if said == SOCKETS_END => break,
                (said, None) => {
                    let expected = SOCKETS_END;
                    return Err(UpgradeError::Unexpected { said, expected });
                }
            }
        }
        Ok(Takeover { old, sockets })
    }

    /// The sockets for one address; none if the running edge doesn't listen there.
    pub(crate) fn take(&mut self, place: Place) -> Option<Vec<TcpListener>> {
        self.sockets.remove(&place)
    }

    /// Has the running edge leave the store alone.
    ///
    /// # Errors
    /// [`UpgradeError`].
    pub(crate) fn retire_old(&self) -> Result<(), UpgradeError> {
        self.old.say(RETIRE)?;
        self.old.expect(RETIRED)
    }

    /// Says that connections are accepted here. The old process begins to end.
    ///
    /// # Errors
    /// [`UpgradeError`]: it is gone already, which changes nothing here.
    pub(crate) fn ready(self) -> Result<(), UpgradeError> {
        self.old.say(READY)?;
        self.old.expect(GOODBYE)
    }
}

/// The old process' side: what it would hand over.
pub(crate) struct Handover {
    /// Second handles to the listening sockets.
    pub(crate) sockets: Vec<(Place, TcpListener)>,
    /// Has the store written to no more. Blocks.
    pub(crate) retire: Box<dyn Fn() -> io::Result<()> + Send>,
    /// How long the new process may take.
    pub(crate) wait: Duration,
}

/// The handover, waiting to be asked for.
pub(crate) struct Offer {
    /// Resolves when a new process has taken over.
    pub(crate) taken: oneshot::Receiver<()>,
    sockets: Arc<Mutex<Vec<(Place, TcpListener)>>>,
}

impl Offer {
    /// From now on nothing can be taken over, and the second handles to the sockets are closed.
    pub(crate) fn withdraw(self) {
        self.sockets.lock().clear();
    }
}

impl Handover {
    /// Listens at `path` in a thread of its own, in place of whoever did before.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn offer(self, path: &Path) -> io::Result<Offer> {
        let listener = listen(path)?;
        let (tell, taken) = oneshot::channel();
        let sockets = Arc::new(Mutex::new(self.sockets));
        let offered = Arc::clone(&sockets);
        let (retire, wait) = (self.retire, self.wait);
        thread::Builder::new()
            .name("upgrade".to_owned())
            .spawn(move || {
                while let Ok((socket, _)) = listener.accept() {
                    match hand_over(socket, &offered, &retire, wait) {
                        Ok(()) => {
                            offered.lock().clear();
                            let _ = tell.send(());
                            return;
                        }
                        Err(error) => {
                            tracing::error!(%error, "upgrade failed, this process goes on");
                        }
                    }
                }
            })?;
        Ok(Offer { taken, sockets })
    }
}

/// The whole conversation, from the old process' side.
fn hand_over(
    socket: Socket,
    sockets: &Mutex<Vec<(Place, TcpListener)>>,
    retire: &dyn Fn() -> io::Result<()>,
    wait: Duration,
) -> Result<(), UpgradeError> {
    let new = Channel::over(socket, wait)?;
    new.check_user()?;
    new.expect(HELLO)?;
    for (place, listener) in sockets.lock().iter() {
        new.say_with(&place.to_string(), listener.as_fd())?;
    }
    new.say(SOCKETS_END)?;
    new.expect(RETIRE)?;
    tracing::info!("a new process takes over, nothing more is stored here");
    retire()?;
    new.say(RETIRED)?;
    new.expect(READY)?;
    // Its answer may be lost: the new process serves either way.
    let _ = new.say(GOODBYE);
    Ok(())
}

fn listen(path: &Path) -> io::Result<Socket> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Before anybody can connect: that needs the `listen`.
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    socket.listen(1)?;
    Ok(socket)
}

/// One end of the conversation. Every wait is bounded.
struct Channel(Socket);

impl Channel {
    fn connect(path: &Path, wait: Duration) -> io::Result<Channel> {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        socket.connect(&SockAddr::unix(path)?)?;
        Channel::over(socket, wait)
    }

    fn over(socket: Socket, wait: Duration) -> io::Result<Channel> {
        socket.set_read_timeout(Some(wait))?;
        socket.set_write_timeout(Some(wait))?;
        Ok(Channel(socket))
    }

    /// The file's mode keeps others out; this says it again.
    fn check_user(&self) -> io::Result<()> {
        let user = sockopt::socket_peercred(&self.0)?.uid;
        if user == geteuid() || user.is_root() {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it runs as another user",
        ))
    }

    fn say(&self, message: &str) -> io::Result<()> {
        self.send(message, &mut SendAncillaryBuffer::default())
    }

    fn say_with(&self, message: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [descriptor];
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        self.send(message, &mut control)
    }

    fn send(&self, message: &str, control: &mut SendAncillaryBuffer<'_, '_, '_>) -> io::Result<()> {
        let bytes = [IoSlice::new(message.as_bytes())];
        sendmsg(&self.0, &bytes, control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next message, and the descriptor that came with it.
    fn hear(&self) -> io::Result<(String, Option<OwnedFd>)> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; MESSAGE];
        let mut buffers = [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let length = recvmsg(&self.0, &mut buffers, &mut control, flags)?.bytes;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let descriptor = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        let message = String::from_utf8_lossy(&bytes[..length]).into_owned();
        Ok((message, descriptor))
    }

    fn expect(&self, expected: &'static str) -> Result<(), UpgradeError> {
        let (said, _) = self.hear()?;
        if said == expected {
            return Ok(());
        }
        Err(UpgradeError::Unexpected { said, expected })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const WAIT: Duration = Duration::from_secs(20);

    fn listener() -> (Place, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = Place {
            purpose: Purpose::Clear,
            address: listener.local_addr().unwrap(),
        };
        (place, listener)
    }

    struct Old {
        dir: tempfile::TempDir,
        place: Place,
        offer: Offer,
        retired: Arc<AtomicUsize>,
    }

    impl Old {
        fn new() -> Old {
            let dir = tempfile::tempdir().unwrap();
            let (place, listener) = listener();
            let retired = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&retired);
            let handover = Handover {
                sockets: vec![(place, listener)],
                retire: Box::new(move || {
                    counted.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                }),
                wait: WAIT,
            };
            let offer = handover.offer(&dir.path().join("socket")).unwrap();
            Old {
                dir,
                place,
                offer,
                retired,
            }
        }

        fn begin(&self) -> Takeover {
            Takeover::begin(&self.dir.path().join("socket"), WAIT).unwrap()
        }
    }

    #[test]
    fn the_sockets_go_over_and_the_old_process_is_told() {
        let old = Old::new();
        let mut new = old.begin();
        let sockets = new.take(old.place).unwrap();
        assert_eq!(sockets[0].local_addr().unwrap(), old.place.address);
        assert!(new.take(old.place).is_none(), "once");
        assert_eq!(old.retired.load(Ordering::SeqCst), 0);
        new.retire_old().unwrap();
        assert_eq!(old.retired.load(Ordering::SeqCst), 1);
        new.ready().unwrap();
        old.offer.taken.blocking_recv().unwrap();
    }

    #[test]
    fn a_new_process_that_dies_leaves_the_old_one_as_it_was() {
        let mut old = Old::new();
        drop(old.begin());
        let half_way = old.begin();
        half_way.retire_old().unwrap();
        drop(half_way);
        assert!(old.offer.taken.try_recv().is_err());
        let third = old.begin();
        third.retire_old().unwrap();
        third.ready().unwrap();
        old.offer.taken.blocking_recv().unwrap();
    }

    #[test]
    fn a_stranger_gets_nothing() {
        let old = Old::new();
        let path = old.dir.path().join("socket");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let stranger = Channel::connect(&path, WAIT).unwrap();
        stranger.say("modcdn-upgrade 0").unwrap();
        assert!(stranger.hear().is_err(), "closed without a socket");
    }

    #[test]
    fn without_a_running_edge_the_error_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let error = Takeover::begin(&dir.path().join("socket"), WAIT).err();
        let error = error.unwrap().to_string();
        assert!(error.contains("start without --upgrade"), "{error}");
    }

    #[test]
    fn places_come_back_from_their_text() {
        for address in ["0.0.0.0:8080", "[::1]:8443"] {
            for purpose in Purpose::ALL {
                let address = address.parse().unwrap();
                let place = Place { purpose, address };
                assert_eq!(place.to_string().parse::<Place>().unwrap(), place);
            }
        }
        assert!("socket clear nowhere".parse::<Place>().is_err());
    }
}
