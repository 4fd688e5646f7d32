//! Counts what each thread allocates: the allocator of the tests that link this crate, and of nothing that ships.
//!
//! A claim like "no allocation per packet" is worth what counts it. Counts are kept by thread, because tests run beside
//! each other and a lane has a thread of its own: whoever asks on that thread (an event handler, for one) gets that
//! lane's count. Not a limit. Called by tests of `levada-lane` and `levada-ports`: the former forbids unsafe code,
//! hence a crate of its own. Invariant: memory is the system allocator's, unchanged; a call only counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Needs no destructor and no lazy start, so that the allocator may use it at any time.
    static COUNT: Cell<u64> = const { Cell::new(0) };
    /// Below zero where a thread frees what another allocated.
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

/// How often this thread has allocated, or has made an allocation larger.
#[must_use]
pub fn allocations() -> u64 {
    COUNT.get()
}

/// How many bytes this thread has allocated and not freed.
#[must_use]
pub fn held_bytes() -> i64 {
    BYTES.get()
}

fn count(bytes: usize) {
    COUNT.set(COUNT.get() + 1);
    BYTES.set(BYTES.get() + bytes as i64);
}

fn free(bytes: usize) {
    BYTES.set(BYTES.get() - bytes as i64);
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator with the caller's own arguments, and its answer comes back as it
// is. Counting allocates nothing: a thread-local number, made at compile time, that nothing destroys.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is the system allocator's too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count(bytes);
        free(layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        free(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_thread_allocates_is_counted_and_what_another_does_is_not() {
        let before = allocations();

        let mut list: Vec<u8> = Vec::with_capacity(1);
        list.extend([1, 2, 3]);
        let here = allocations();
        let there = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let from = allocations();
                drop(vec![7; 100]);
                allocations() - from
            });
            thread.join().unwrap_or(0)
        });

        assert_eq!((here - before, there), (2, 1));
        assert_eq!(list, [1, 2, 3]);
    }
}
