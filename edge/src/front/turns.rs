//! Turns of those who send long bodies.
//!
//! A thread serves many connections. One that sends a long body as fast as its client takes it would
//! keep all others waiting, and fifty of them a short answer for a piece of each. So a long body is
//! sent a piece a turn. The turns of a thread go round in the order in which they were asked for, and
//! after every [`QUANTUM`] the thread looks for what else is ready: a short answer waits for one piece
//! or two, however many long bodies are being sent.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::poll;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::yield_now;

/// For so long turns follow each other before the thread looks for what else is ready.
const QUANTUM: Duration = Duration::from_micros(100);

thread_local! {
    /// When this thread last looked.
    static LOOKED: Cell<Option<Instant>> = const { Cell::new(None) };
    /// One turn at a time. Its queue is fair, and who leaves it early holds nobody up.
    static TURNS: Arc<Semaphore> = Arc::new(Semaphore::new(1));
}

/// A turn, until it is dropped. To be kept no longer than the work takes: not while waiting.
pub(crate) struct Turn(
    #[expect(dead_code, reason = "held, and given back when dropped")] Option<OwnedSemaphorePermit>,
);

/// Waits for a turn of this thread, and lets what is ready go first where it is time for that.
pub(crate) async fn turn() -> Turn {
    let turns = TURNS.with(Arc::clone);
    // An error says that the semaphore was closed, which nobody does.
    let permit = turns.acquire_owned().await.ok();
    if LOOKED
        .get()
        .is_none_or(|looked| looked.elapsed() >= QUANTUM)
    {
        yield_now().await;
        LOOKED.set(Some(Instant::now()));
    }
    Turn(permit)
}

/// `future`, polled only in turns: whenever it waits, its turn is another's.
pub(crate) async fn in_turns<F: Future>(mut future: Pin<&mut F>) -> F::Output {
    loop {
        let turn = turn().await;
        let polled = poll!(future.as_mut());
        drop(turn);
        match polled {
            Poll::Ready(output) => return output,
            Poll::Pending => woken().await,
        }
    }
}

/// Waits for the wake-up that another future has asked for in the name of this task.
async fn woken() {
    let mut asked = false;
    poll_fn(|_| {
        if std::mem::replace(&mut asked, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        LocalSet::new().block_on(&runtime, test);
    }

    #[test]
    fn turns_go_round_and_what_is_ready_comes_between() {
        run(async {
            let seen = Rc::new(RefCell::new(String::new()));
            let work = |name: char, seen: Rc<RefCell<String>>| async move {
                for _ in 0..3 {
                    LOOKED.set(None);
                    let turn = turn().await;
                    seen.borrow_mut().push(name);
                    drop(turn);
                }
            };
            let others = Rc::clone(&seen);
            let other = spawn_local(async move {
                while !others.borrow().ends_with("abc") {
                    yield_now().await;
                }
                others.borrow_mut().push('!');
            });
            let long = ['a', 'b', 'c'].map(|name| spawn_local(work(name, Rc::clone(&seen))));
            for one in long {
                one.await.unwrap();
            }
            other.await.unwrap();
            assert_eq!(seen.borrow().replace('!', ""), "abcabcabc");
            assert!(seen.borrow().contains("abc!"), "{}", seen.borrow());
        });
    }

    #[test]
    fn who_waits_for_something_else_holds_no_turn() {
        run(async {
            let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
            let stuck = spawn_local(async move {
                let mut receiver = std::pin::pin!(receiver);
                in_turns(receiver.as_mut()).await
            });
            for _ in 0..10 {
                yield_now().await;
            }
            let other = tokio::time::timeout(Duration::from_secs(10), turn()).await;
            assert!(other.is_ok(), "the turn is free");
            drop(other);
            sender.send(()).unwrap();
            assert_eq!(stuck.await.unwrap(), Ok(()));
        });
    }

    #[test]
    fn who_leaves_the_queue_holds_nobody_up() {
        run(async {
            let first = turn().await;
            let leaves = spawn_local(turn());
            let stays = spawn_local(turn());
            yield_now().await;
            leaves.abort();
            drop(first);
            let stays = tokio::time::timeout(Duration::from_secs(10), stays).await;
            assert!(stays.is_ok());
        });
    }
}
