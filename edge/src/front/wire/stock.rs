//! A thread's spare buffers, for its next busy connection.

use std::cell::RefCell;

use super::CAPACITY;

/// Buffers kept by each thread.
const STOCK: usize = 16;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// One from the stock, or a new one.
pub(super) fn from_stock() -> Vec<u8> {
    SPARE
        .try_with(|spare| spare.borrow_mut().pop())
        .ok()
        .flatten()
        .unwrap_or_else(|| Vec::with_capacity(CAPACITY))
}

/// Puts one back.
pub(super) fn give_back(mut buffer: Vec<u8>) {
    // One that a push made longer goes: the stock is bounded.
    if buffer.capacity() != CAPACITY {
        return;
    }
    buffer.clear();
    let _ = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() < STOCK {
            spare.push(buffer);
        }
    });
}
