use std::collections::VecDeque;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, Ssl, TimingDigest, UniqueID,
};
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

const LINGER: Duration = Duration::from_secs(10);

fn wire(capacity: usize) -> (Wire, DuplexStream) {
    let (ours, theirs) = duplex(capacity);
    (Wire::new(Transport::Plain(Box::new(ours))), theirs)
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|n| u8::try_from(n % 251).unwrap())
        .collect()
}

/// A transport that takes everything and remembers each write.
#[derive(Debug, Default)]
struct Recorder {
    writes: Arc<Mutex<VecDeque<usize>>>,
    flushes: Arc<Mutex<usize>>,
}

impl AsyncRead for Recorder {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Recorder {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes.lock().push_back(buf.len());
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        self.writes.lock().push_back(length);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        *self.flushes.lock() += 1;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[async_trait]
impl Shutdown for Recorder {
    async fn shutdown(&mut self) {}
}
impl UniqueID for Recorder {
    fn id(&self) -> UniqueIDType {
        -1
    }
}
impl Ssl for Recorder {}
impl Peek for Recorder {}
impl GetTimingDigest for Recorder {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}
impl GetProxyDigest for Recorder {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}
impl GetSocketDigest for Recorder {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

#[tokio::test]
async fn all_writes_of_a_poll_leave_as_one() {
    let recorder = Recorder::default();
    let (writes, flushes) = (Arc::clone(&recorder.writes), Arc::clone(&recorder.flushes));
    let wire = Wire::new(Transport::Plain(Box::new(recorder)));
    let io = wire.clone();
    wire.drive(LINGER, async {
        for _ in 0..100 {
            io.send(&[b"a frame"]).await.unwrap();
        }
        tokio::task::yield_now().await;
        io.send(&[b"next poll"]).await.unwrap();
    })
    .await
    .unwrap();
    assert_eq!(*writes.lock(), [700, 9]);
    assert_eq!(*flushes.lock(), 2);
}

#[tokio::test]
async fn long_writes_pass_by_the_buffer_in_order() {
    let recorder = Recorder::default();
    let writes = Arc::clone(&recorder.writes);
    let wire = Wire::new(Transport::Plain(Box::new(recorder)));
    let io = wire.clone();
    let body = pattern(DIRECT);
    wire.drive(LINGER, async {
        io.send(&[b"head"]).await.unwrap();
        io.send(&[&body]).await.unwrap();
        io.send(&[b"tail"]).await.unwrap();
    })
    .await
    .unwrap();
    // What was waiting goes with it.
    assert_eq!(*writes.lock(), [4 + DIRECT, 4]);
}

#[tokio::test]
async fn an_idle_connection_holds_no_buffer() {
    let (wire, mut peer) = wire(1 << 20);
    let io = wire.clone();
    let driven = wire.drive(LINGER, async { io.send(&[b"hello"]).await });
    driven.await.unwrap().unwrap();
    assert_eq!(wire.shared.inner.lock().out.capacity(), 0);
    let mut got = [0; 5];
    peer.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"hello");
}

#[tokio::test]
async fn bytes_leave_while_the_task_waits_for_something_else() {
    let (wire, mut peer) = wire(64);
    let io = wire.clone();
    let task = tokio::spawn(async move {
        wire.drive(LINGER, async {
            io.send(&[&pattern(1000)]).await.unwrap();
            // Never polled again by anything but the socket.
            std::future::pending::<()>().await;
        })
        .await
    });
    let mut got = vec![0; 1000];
    peer.read_exact(&mut got).await.unwrap();
    assert_eq!(got, pattern(1000));
    task.abort();
}

#[tokio::test]
async fn a_full_socket_makes_the_writer_wait_and_loses_nothing() {
    let (wire, mut peer) = wire(1000);
    let io = wire.clone();
    let total = 3 * CAPACITY + 17;
    let task = tokio::spawn(async move {
        wire.drive(LINGER, async {
            for piece in pattern(total).chunks(16 << 10) {
                io.send(&[piece]).await.unwrap();
            }
        })
        .await
    });
    tokio::task::yield_now().await;
    assert!(!task.is_finished(), "the writer must wait");
    let mut got = vec![0; total];
    peer.read_exact(&mut got).await.unwrap();
    assert_eq!(got, pattern(total));
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_writer_with_a_waker_of_its_own_is_woken_too() {
    let (wire, mut peer) = wire(1000);
    let total = 4 * CAPACITY;
    let task = tokio::spawn(async move {
        let io = wire.clone();
        let writer = async move {
            for piece in pattern(total).chunks(10_000) {
                io.send(&[piece]).await.unwrap();
            }
        };
        // Polls its futures only if their own wakers were woken.
        let mut all: FuturesUnordered<_> = std::iter::once(writer).collect();
        wire.drive(LINGER, async { all.next().await }).await
    });
    let mut got = vec![0; total];
    peer.read_exact(&mut got).await.unwrap();
    assert_eq!(got, pattern(total));
    task.await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_lost_peer_ends_the_connection() {
    let (wire, peer) = wire(10);
    let io = wire.clone();
    drop(peer);
    let driven = wire.drive(LINGER, async {
        io.send(&[b"hello"]).await.unwrap();
        std::future::pending::<()>().await;
    });
    assert!(driven.await.is_none());
    assert!(
        wire.send(&[b"more"]).await.is_err(),
        "later writes fail at once"
    );
}

#[tokio::test]
async fn close_sends_what_is_left_and_then_the_end() {
    let (wire, mut peer) = wire(1 << 20);
    let io = wire.clone();
    io.send(&[b"last words"]).await.unwrap();
    wire.close(LINGER).await;
    let mut got = Vec::new();
    peer.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"last words");
}

#[tokio::test]
async fn what_was_read_ahead_is_read_first() {
    let (wire, mut peer) = wire(1000);
    peer.write_all(b"first ").await.unwrap();
    assert_eq!(wire.read_ahead().await.unwrap(), 6);
    assert!(wire.has_ahead());
    peer.write_all(b"second").await.unwrap();
    drop(peer);
    let mut got = Vec::new();
    while wire.read_ahead().await.unwrap() > 0 {}
    wire.with_ahead(|ahead| got.extend_from_slice(ahead));
    assert_eq!(got, b"first second");
}

#[tokio::test]
async fn whoever_waits_for_room_may_then_push_a_whole_frame() {
    let (wire, mut peer) = wire(1000);
    let total = 4 * CAPACITY;
    let task = tokio::spawn(async move {
        let writer = |wire: Wire| async move {
            for piece in pattern(total).chunks(50_000) {
                poll_fn(|cx| wire.poll_room(cx)).await.unwrap();
                wire.push(&[&piece[..9], &piece[9..]]);
            }
        };
        let mut all: FuturesUnordered<_> = [writer(wire.clone())].into_iter().collect();
        wire.drive(LINGER, async { all.next().await }).await
    });
    let mut got = vec![0; total];
    peer.read_exact(&mut got).await.unwrap();
    assert_eq!(got, pattern(total));
    task.await.unwrap().unwrap().unwrap();
}

#[derive(Debug, Clone)]
enum Step {
    Send(Vec<usize>),
    Push(Vec<usize>),
    Little(usize),
    Yield,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = || prop_oneof![4 => 0usize..3000, 1 => 3000usize..200_000];
    let sizes = || proptest::collection::vec(size(), 1..4);
    let step = prop_oneof![
        4 => sizes().prop_map(Step::Send),
        4 => sizes().prop_map(Step::Push),
        2 => (0usize..1000).prop_map(Step::Little),
        1 => Just(Step::Yield),
    ];
    proptest::collection::vec(step, 1..25)
}

async fn play(wire: &Wire, steps: &[Step]) {
    let mut next = 0usize;
    let mut bytes = |length: usize| {
        let made: Vec<u8> = (next..next + length)
            .map(|n| u8::try_from(n % 251).unwrap())
            .collect();
        next += length;
        made
    };
    for step in steps {
        match step {
            Step::Send(lengths) | Step::Push(lengths) => {
                let pieces: Vec<Vec<u8>> = lengths.iter().map(|length| bytes(*length)).collect();
                let slices: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
                if matches!(step, Step::Send(_)) {
                    wire.send(&slices).await.unwrap();
                } else {
                    poll_fn(|cx| wire.poll_room(cx)).await.unwrap();
                    wire.push(&slices);
                }
            }
            Step::Little(length) => wire.write_with(|out| out.extend(bytes(*length))),
            Step::Yield => tokio::task::yield_now().await,
        }
    }
}

fn total(steps: &[Step]) -> usize {
    let length = |step: &Step| match step {
        Step::Send(lengths) | Step::Push(lengths) => lengths.iter().sum(),
        Step::Little(length) => *length,
        Step::Yield => 0,
    };
    steps.iter().map(length).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_is_lost_or_reordered(steps in steps(), capacity in 1usize..100_000) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let expected = pattern(total(&steps));
        let got = runtime.block_on(async move {
            let (wire, mut peer) = wire(capacity);
            let writing = tokio::spawn(async move {
                wire.drive(LINGER, play(&wire, &steps)).await.unwrap();
                wire.close(LINGER).await;
            });
            let mut got = Vec::new();
            peer.read_to_end(&mut got).await.unwrap();
            writing.await.unwrap();
            got
        });
        prop_assert!(got == expected, "{} bytes of {}", got.len(), expected.len());
    }
}
