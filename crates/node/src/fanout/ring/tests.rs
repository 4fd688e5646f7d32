//! Tests of the ring where they need to stand between its steps.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::mpsc;

use super::*;

/// What a test does between the emptying of an inbox and the making of its entries, once, on this thread.
pub(super) mod hook {
    use std::cell::RefCell;

    type Hook = Box<dyn FnOnce()>;

    thread_local! {
        static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    pub(super) fn set(hook: impl FnOnce() + 'static) {
        HOOK.set(Some(Box::new(hook)));
    }

    pub(in super::super) fn run() {
        if let Some(hook) = HOOK.take() {
            hook();
        }
    }
}

#[test]
fn who_waits_while_another_empties_the_inbox_sees_what_was_in_it() {
    let ring = Arc::new(Ring::default());
    let mut first = ring.join(SlotId(1)).reader;
    let mut second = ring.join(SlotId(2)).reader;
    ring.push(datapath::Delivery::End);
    let (seen, has_seen) = mpsc::channel();
    let of_second = Arc::clone(&ring);
    hook::set(move || {
        // The task of the flow has woken whoever waited before.
        of_second.waiting.0.lock().unwrap().take();
        of_second.wait(&mut second, Waker::noop());
        seen.send(of_second.has_news(&second)).unwrap();
    });

    ring.fill(&mut first, |_| {});

    assert_eq!(
        has_seen.try_recv(),
        Ok(true),
        "it sleeps, and nobody wakes it"
    );
}

#[test]
fn who_comes_and_goes_on_a_silent_flow_leaves_no_waker_behind() {
    let ring = Ring::default();
    let mut stays = ring.join(SlotId(1)).reader;
    ring.wait(&mut stays, Waker::noop());

    for _ in 0..100 {
        let mut goes = ring.join(SlotId(2)).reader;
        ring.wait(&mut goes, Waker::noop());
        ring.leave(SlotId(2), &goes);
    }

    let wakers = ring.waiting.0.lock().unwrap().take();
    assert_eq!(wakers.iter().flatten().count(), 1);
    assert_eq!(wakers.len(), 2, "one place serves all that come and go");
}
