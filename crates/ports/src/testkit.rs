//! What the tests of this crate share: the lanes' testkit, and the computers on which stories of sockets are told.
//!
//! Not the lanes joined by perfect wires: those are `levada_lane::testkit`. Called by tests only. Invariant: a story
//! comes to the same end on every computer.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::cell::Cell;

pub(crate) use levada_lane::testkit::*;

use crate::sys::{ProbeSettings, ProbeSocket, Socket, SocketSettings};

/// What a story's machine offers: the same must come to pass on each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Computer {
    /// All that this one has.
    #[default]
    Whole,
    WithoutGso,
    WithoutGro,
    /// GSO is there, and the kernel refuses the first run: a tunnel, a card.
    #[cfg(target_os = "linux")]
    GsoFails,
    /// No GSO, no GRO, no sockets that the kernel steers between.
    Bare,
}

thread_local! {
    static COMPUTER: Cell<Computer> = const { Cell::new(Computer::Whole) };
}

impl Computer {
    /// That of the story which is told on this thread.
    pub(crate) fn here() -> Self {
        COMPUTER.get()
    }

    /// Tells a story on it.
    pub(crate) fn tell(self, story: fn()) {
        COMPUTER.set(self);
        story();
        COMPUTER.set(Self::Whole);
    }

    /// Whether runs still leave in one system call at the end of a story.
    pub(crate) fn has_gso(self) -> bool {
        matches!(self, Self::Whole | Self::WithoutGro)
    }

    /// Whether this one has no sockets that the kernel steers between.
    pub(crate) fn is_bare() -> bool {
        Self::here() == Self::Bare
    }

    /// Whether the kernel refuses runs that it seemed to take.
    pub(crate) fn fails(self) -> bool {
        #[cfg(target_os = "linux")]
        let fails = self == Self::GsoFails;
        #[cfg(not(target_os = "linux"))]
        let fails = false;
        fails
    }

    /// Settings of the sockets on it.
    pub(crate) fn sockets(self) -> SocketSettings {
        let is_bare = self == Self::Bare;
        SocketSettings {
            gso: !is_bare && self != Self::WithoutGso,
            gro: !is_bare && self != Self::WithoutGro,
            steering: !is_bare,
            ..SocketSettings::default()
        }
    }

    /// Does to a socket what its kernel does.
    pub(crate) fn befall(self, socket: &Socket) {
        #[cfg(target_os = "linux")]
        {
            socket.take_unsummed();
            socket.refuse_runs(self.fails());
        }
        let _ = socket;
    }

    /// A far end of a story on it.
    pub(crate) fn far_end(address: &str, settings: &ProbeSettings) -> ProbeSocket {
        let socket = ProbeSocket::bind(address.parse().unwrap(), settings).unwrap();
        #[cfg(target_os = "linux")]
        socket.take_unsummed();
        socket
    }
}

/// Makes a test of each story on each computer.
macro_rules! on_each_computer {
    ($($story:ident),* $(,)?) => {
        on_each_computer! { @on whole Whole $($story)* }
        on_each_computer! { @on without_gso WithoutGso $($story)* }
        on_each_computer! { @on without_gro WithoutGro $($story)* }
        #[cfg(target_os = "linux")]
        on_each_computer! { @on where_gso_fails GsoFails $($story)* }
        on_each_computer! { @on bare Bare $($story)* }
    };
    (@on $module:ident $computer:ident $($story:ident)*) => {
        mod $module {
            $(
                #[test]
                fn $story() {
                    crate::testkit::Computer::$computer.tell(super::$story);
                }
            )*
        }
    };
}
pub(crate) use on_each_computer;
