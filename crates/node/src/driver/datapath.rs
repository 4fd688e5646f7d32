//! The queues between the lanes' threads and the tasks, and the lanes' end of life.
//!
//! | from the lanes | goes to | when that is full |
//! |---|---|---|
//! | frames | [`Fanout`], at once | a slow subscriber is skipped to the next group |
//! | QUIC | [`Foreign`] | dropped and counted; QUIC repairs it |
//! | link datagrams | the driver | dropped and counted: to a link it is loss |
//! | first packets of an upstream | the driver | room is kept for them |
//!
//! A lane that ends before it is told to, by a panic or because it can poll no more, drops what it calls for events,
//! and that is how the tasks know ([`Life`]).
//!
//! Not what is said. Made by `start`. Invariant: a lane's thread never waits for a task.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use levada_lane::LaneSettings;
use levada_lane::api::{Command, Event, FlowEvent};
use levada_ports::Clock;
use levada_ports::lanes::{self, Lanes};
use levada_ports::sys::{BufferBytes, Feature, SocketSet, SocketSettings};
use levada_ports::worker::{Full, WorkerCounters};
use levada_wire::lane;
use levada_wire::{Bitrate, counters};
use tokio::sync::{mpsc, watch};

use crate::builder::StartError;
use crate::fanout::Fanout;
use crate::node::Stopped;
use crate::quic::shim::{Foreign, Shim};

/// The most events that may wait for the driver.
const EVENTS_MAX: usize = 4_096;
/// Of these, how many are kept for what must not be lost.
const EVENTS_KEPT: usize = 1_024;
/// How long a sender waits when a lane's queue is full: 64 MiB or 65,536 commands are many milliseconds' work.
const FULL_WAIT: Duration = Duration::from_millis(2);

counters! {
    /// What was dropped between the datapath and the control plane.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) struct Losses, "" {
        /// QUIC datagrams that came while the control plane was too far behind to take them; QUIC repairs that.
        quic_datagrams_dropped: Counter "datagrams",
        /// QUIC datagrams that the system did not take.
        quic_sends_refused: Counter "datagrams",
        /// Link datagrams that came while the control plane was too far behind to take them: to a link that is loss.
        link_datagrams_unheard: Counter "datagrams",
    }
}

/// The datapath, as the tasks see it. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Datapath {
    clock: Clock,
    /// None after the stop.
    lanes: Arc<RwLock<Option<Lanes>>>,
    foreign: Arc<Foreign>,
    unheard: Arc<AtomicU64>,
    is_gone: watch::Receiver<bool>,
}

/// The lanes', for as long as one of their threads lives: they end together.
#[derive(Debug)]
struct Life(watch::Sender<bool>);

impl Drop for Life {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

/// What a node gets of its datapath at its start.
#[derive(Debug)]
pub(super) struct DatapathParts {
    pub(super) datapath: Datapath,
    pub(super) events: mpsc::Receiver<lane::Event>,
    pub(super) socket: Arc<dyn quinn::AsyncUdpSocket>,
    pub(super) local_addr: SocketAddr,
}

/// Binds the port and starts that many lanes.
pub(super) fn start(
    listen: SocketAddr,
    count: usize,
    lane: LaneSettings,
    fanout: Arc<Fanout>,
) -> Result<DatapathParts, StartError> {
    let sockets = bind(listen, count)?;
    let clock = Clock::start();
    let foreign = Arc::new(Foreign::default());
    let unheard = Arc::new(AtomicU64::new(0));
    let (heard, events) = mpsc::channel(EVENTS_MAX);
    let (life, is_gone) = watch::channel(false);
    let life = Life(life);
    let on_foreign = {
        let foreign = Arc::clone(&foreign);
        move |train| foreign.push(train)
    };
    let config = lanes::Config {
        sockets,
        lane,
        clock,
        on_event: Arc::new(sink(life, heard, fanout, Arc::clone(&unheard))),
        on_foreign: Arc::new(on_foreign),
    };
    let lanes = lanes::spawn(config).map_err(|source| StartError::System {
        what: "threads for the datapath",
        source,
    })?;
    let local_addr = lanes.local_addr();
    let steering = lanes.steering();
    tracing::debug!(lanes = lanes.count(), ?steering, "the datapath runs");
    let found = [
        ("packets leave one by one", lanes.gso()),
        ("packets arrive one by one", lanes.gro()),
    ];
    if let Some(handicaps) = handicaps(&found, lanes.socket().buffers()) {
        tracing::info!("this machine makes it slower: {handicaps}; `levada check` says what to do");
    }
    let shim = Shim::new(&lanes.socket(), Arc::clone(&foreign));
    Ok(DatapathParts {
        datapath: Datapath {
            clock,
            lanes: Arc::new(RwLock::new(Some(lanes))),
            foreign,
            unheard,
            is_gone,
        },
        events,
        socket: Arc::new(shim),
        local_addr,
    })
}

/// What of this machine makes the same packets cost more, or lets some be lost when many come at once.
fn handicaps(features: &[(&str, Feature)], given: BufferBytes) -> Option<String> {
    let wanted = SocketSettings::default().buffers;
    let mut said = Vec::new();
    for (effect, feature) in features {
        if let Feature::Off(why) = feature {
            said.push(format!("{effect} ({why})"));
        }
    }
    for (which, given, wanted) in [
        ("receive", given.receive, wanted.receive),
        ("send", given.send, wanted.send),
    ] {
        if given < wanted {
            let (given, wanted) = (given >> 10, wanted >> 10);
            said.push(format!(
                "a {which} buffer of {given} KiB instead of {wanted}"
            ));
        }
    }
    (!said.is_empty()).then(|| said.join("; "))
}

fn bind(listen: SocketAddr, lanes: usize) -> Result<SocketSet, StartError> {
    SocketSet::bind(listen, &SocketSettings::default(), lanes).map_err(|error| {
        if error.is_in_use() {
            StartError::PortInUse { address: listen }
        } else {
            StartError::Listen {
                address: listen,
                source: error.source,
            }
        }
    })
}

/// What the lanes call for each event.
fn sink(
    life: Life,
    heard: mpsc::Sender<lane::Event>,
    fanout: Arc<Fanout>,
    unheard: Arc<AtomicU64>,
) -> impl Fn(Event) + Send + Sync {
    move |event| {
        let Life(_) = &life;
        let event = match event {
            Event::Core(event) => event,
            Event::Delivery { flow, delivery } => return fanout.deliver(flow, delivery),
            Event::ChannelEnded { flow, channel } => {
                tracing::debug!(channel = %channel.address, "a multicast egress was not renewed in time");
                lane::Event::Flow(flow, FlowEvent::ChannelEnded(channel))
            }
            Event::CannotJoin {
                flow,
                channel,
                reason,
            } => {
                tracing::warn!(channel = %channel.address, reason, "a multicast channel cannot be joined");
                lane::Event::Flow(flow, FlowEvent::CannotJoin(channel))
            }
        };
        let may_be_lost = match &event {
            // The next one of these says it too.
            lane::Event::Link(..)
            | lane::Event::Site { .. }
            | lane::Event::Flow(_, FlowEvent::Measured(_) | FlowEvent::Heard(_)) => true,
            lane::Event::Flow(..) => false,
        };
        let has_room = !may_be_lost || heard.capacity() > EVENTS_KEPT;
        if !has_room || heard.try_send(event).is_err() {
            unheard.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Datapath {
    /// The node's clock.
    pub(crate) const fn clock(&self) -> Clock {
        self.clock
    }

    /// Waits until the lanes have ended, though nobody stopped them.
    pub(crate) async fn gone(&self) {
        let mut is_gone = self.is_gone.clone();
        // An error means that nobody can tell any more, because it was told.
        let _ = is_gone.wait_for(|is_gone| *is_gone).await;
    }

    /// Gives a command, in the order of calls of one task; waits while too many wait.
    pub(crate) async fn send(&self, command: Command) -> Result<(), Stopped> {
        let mut command = command;
        loop {
            if *self.is_gone.borrow() {
                return Err(Stopped);
            }
            match self.with(|lanes| lanes.send(command)).ok_or(Stopped)? {
                Ok(()) => return Ok(()),
                Err(Full(back)) => command = *back,
            }
            tokio::time::sleep(FULL_WAIT).await;
        }
    }

    /// What the interface with that address carries, for newcomers.
    pub(crate) fn set_interface_rate(&self, source: IpAddr, rate: Bitrate) {
        self.with(|lanes| lanes.set_interface_rate(source, rate));
    }

    /// The counters after all commands sent so far.
    pub(crate) async fn counters(&self) -> Result<WorkerCounters, Stopped> {
        let datapath = self.clone();
        let counters = tokio::task::spawn_blocking(move || datapath.with(Lanes::fresh_counters));
        counters.await.ok().flatten().ok_or(Stopped)
    }

    /// What was dropped between the datapath and the control plane.
    pub(crate) fn losses(&self) -> Losses {
        Losses {
            quic_datagrams_dropped: self.foreign.dropped(),
            quic_sends_refused: self.foreign.unsent(),
            link_datagrams_unheard: self.unheard.load(Ordering::Relaxed),
        }
    }

    /// Stops the lanes after what was sent to them, and frees the port.
    pub(crate) async fn stop(&self) {
        let taken = self
            .lanes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(lanes) = taken else {
            return;
        };
        let stopped = tokio::task::spawn_blocking(|| lanes.stop());
        if stopped.await.is_err() {
            tracing::error!("the datapath did not stop as it should");
        }
    }

    fn with<T>(&self, call: impl FnOnce(&Lanes) -> T) -> Option<T> {
        let lanes = self.lanes.read().unwrap_or_else(PoisonError::into_inner);
        lanes.as_ref().map(call)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use levada_lane::api::{FlowCommand, LinkEvent};
    use levada_wire::datagram::link::{LinkDatagram, Pong};
    use levada_wire::{FlowId, LinkIndex};

    use super::*;

    fn alive() -> (Life, watch::Receiver<bool>) {
        let (life, is_gone) = watch::channel(false);
        (Life(life), is_gone)
    }

    fn fanout() -> Arc<Fanout> {
        let room = crate::fanout::FrameRoom::new(1 << 20);
        Arc::new(Fanout::new(tokio::runtime::Handle::current(), room))
    }

    #[test]
    fn what_this_machine_lacks_is_said_and_nothing_of_one_that_has_all() {
        let wanted = SocketSettings::default().buffers;
        let small = BufferBytes {
            receive: 212_992,
            ..wanted
        };
        let off = Feature::Off("the system has no UDP_SEGMENT");

        let lacking = handicaps(&[("packets leave one by one", off)], small);
        let complete = handicaps(&[("packets leave one by one", Feature::On)], wanted);

        assert_eq!(
            lacking.as_deref(),
            Some(
                "packets leave one by one (the system has no UDP_SEGMENT); a receive buffer of 208 KiB instead of 4096"
            )
        );
        assert_eq!(complete, None);
    }

    #[tokio::test]
    async fn a_lane_that_panics_is_gone_with_the_others_and_nobody_waits_for_it() {
        let (life, is_gone) = alive();
        let (heard, _events) = mpsc::channel(EVENTS_MAX);
        let sockets = bind(SocketAddr::from(([127, 0, 0, 1], 0)), 2).unwrap();
        let clock = Clock::start();
        let lanes = lanes::spawn(lanes::Config {
            sockets,
            lane: LaneSettings::default(),
            clock,
            on_event: Arc::new(sink(life, heard, fanout(), Arc::default())),
            on_foreign: Arc::new(|_| panic!("as a bug would")),
        });
        let lanes = lanes.unwrap();
        let port = lanes.local_addr();
        let datapath = Datapath {
            clock,
            lanes: Arc::new(RwLock::new(Some(lanes))),
            foreign: Arc::default(),
            unheard: Arc::default(),
            is_gone,
        };
        let command = || Command::Flow(FlowId(1), FlowCommand::Open);
        assert_eq!(datapath.send(command()).await, Ok(()));

        let knocker = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        knocker.send_to(&[0xc0; 40], port).unwrap();
        let deadline = Duration::from_secs(20);
        tokio::time::timeout(deadline, datapath.gone())
            .await
            .unwrap();

        for _ in 0..=levada_ports::worker::COMMANDS_MAX {
            assert_eq!(datapath.send(command()).await, Err(Stopped));
        }
        let counted = tokio::time::timeout(deadline, datapath.counters()).await;
        assert!(counted.unwrap().is_ok());
        datapath.stop().await;
    }

    #[tokio::test]
    async fn link_datagrams_too_many_are_dropped_and_counted_and_leave_room_for_the_rest() {
        let unheard = Arc::new(AtomicU64::new(0));
        let (heard, mut events) = mpsc::channel(EVENTS_MAX);
        let sink = sink(alive().0, heard, fanout(), Arc::clone(&unheard));
        let link = LinkIndex(1);
        let message = LinkDatagram::Pong(Pong {
            time: 0,
            sent: 0,
            received: 0,
            size: 0,
        });

        for received in 0..u64::try_from(EVENTS_MAX).unwrap() {
            sink(Event::Core(lane::Event::Link(
                link,
                LinkEvent::Datagram {
                    message: message.clone(),
                    received,
                },
            )));
        }
        sink(Event::Core(lane::Event::Flow(
            FlowId(1),
            FlowEvent::Delivering(link),
        )));

        let kept = u64::try_from(EVENTS_KEPT).unwrap();
        assert_eq!(unheard.load(Ordering::Relaxed), kept);
        let mut last = None;
        while let Ok(event) = events.try_recv() {
            last = Some(event);
        }
        assert!(
            matches!(last, Some(lane::Event::Flow(_, FlowEvent::Delivering(_)))),
            "{last:?}"
        );
    }
}
