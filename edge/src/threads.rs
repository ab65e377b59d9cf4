//! Who goes first on a core that has more to do than it can.
//!
//! A fill hashes, writes and encrypts megabytes; a hit is a few microseconds, and somebody waits for
//! it. The scheduler treats their threads alike unless it is told, and lets each run for some
//! milliseconds before another has its turn. So the threads that answer ask for short slices: woken,
//! they run at once, and get no more of the core than they would have. The threads of fills and of the
//! disk are "nicer": of what both want they get a thirtieth, which still hashes some 50 MB/s.
//!
//! Neither needs a privilege. Where the kernel can't (slices: before Linux 6.12), nothing is lost.
//! Against what else runs on the machine (the writing of dirty pages, above all) only the process'
//! own priority helps: the systemd unit has `Nice=-10`.

use std::cell::Cell;

/// Nanoseconds for which a thread that answers wants to run at a time: the shortest the kernel grants.
const SLICE: u64 = 100_000;

/// How much nicer the threads of fills and of the disk are.
const NICER: i32 = 15;

/// The calling thread answers clients. Costs nothing after the first time.
pub(crate) fn answers() {
    thread_local! {
        static ASKED: Cell<bool> = const { Cell::new(false) };
    }
    if !ASKED.replace(true) {
        ask_for_short_slices();
    }
}

fn ask_for_short_slices() {
    let attributes = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).unwrap_or(0),
        sched_policy: u32::try_from(libc::SCHED_OTHER).unwrap_or(0),
        sched_flags: 0,
        sched_nice: niceness(),
        sched_priority: 0,
        sched_runtime: SLICE,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: 0 is the calling thread; `attributes` is whole, says its own size, is only read, and
    // outlives the call. Nothing else of the process is touched.
    let asked = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if asked != 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, "no short slices for a thread that answers");
    }
}

/// The calling thread works for fills, or for the disk.
pub(crate) fn fills() {
    // SAFETY: takes numbers; 0 is the calling thread (on Linux a thread, not the process).
    let asked = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, niceness() + NICER) };
    if asked != 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, "a thread of fills stays as important as those that answer");
    }
}

/// The process', which is its main thread's: a thread that was made by one of the others has that one's.
fn niceness() -> i32 {
    of_thread(std::process::id())
}

/// 0 is the calling one.
fn of_thread(thread: libc::id_t) -> i32 {
    // SAFETY: takes numbers. -1 is a niceness, too, and the only harm of an error taken for one.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, thread) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_fills_are_nicer_than_those_that_answer_and_than_no_other() {
        let seen = std::thread::spawn(|| {
            answers();
            let answering = of_thread(0);
            fills();
            let filling = of_thread(0);
            let made_by_it = std::thread::spawn(|| {
                fills();
                of_thread(0)
            });
            (answering, filling, made_by_it.join().unwrap())
        });
        let nicer = (niceness() + NICER).min(19);
        assert_eq!(seen.join().unwrap(), (niceness(), nicer, nicer));
    }
}
