//! The same over real sockets: a worker's system calls and allocations, on IPv4 and IPv6.
//!
//! Not what a send costs: `levada bench fanout`. Called by nobody. Invariant: what is counted is the worker's own
//! thread: its latest count is taken whenever a QUIC datagram comes, of which each train that mixes has some.

use super::*;

/// A worker over real sockets, fed by one and heard by many.
struct Over {
    handle: WorkerHandle,
    input: ProbeSocket,
    receivers: Vec<ProbeSocket>,
    /// What the worker's thread had allocated when the latest QUIC datagram came.
    allocated: Arc<AtomicU64>,
}

/// What a worker did with the counted part of the traffic.
#[derive(Debug, Default)]
struct DidOver {
    receives: u64,
    packets: u64,
    /// Bursts of trains, and heads that the lane says to its children when a flow falls quiet.
    due: u64,
    calls: u64,
    /// What arrived at the egresses: as many pieces as there were sends.
    arrivals: u64,
    allocated: u64,
}

impl Over {
    fn new(host: &str, settings: SocketSettings) -> Self {
        let probe = ProbeSettings {
            gro: true,
            patience: Some(Duration::from_secs(20)),
            ..ProbeSettings::default()
        };
        let bind = || ProbeSocket::bind(host.parse().unwrap(), &probe).unwrap();
        let allocated = Arc::new(AtomicU64::new(0));
        let latest = Arc::clone(&allocated);
        let handle = worker::spawn(worker::Config {
            lane: Lane::new(0, super::settings()),
            socket: Socket::bind(host.parse().unwrap(), &settings).unwrap(),
            clock: Clock::start(),
            on_event: Box::new(drop),
            on_foreign: Box::new(move |_| latest.store(allocations(), Relaxed)),
        });
        let over = Self {
            handle: handle.unwrap(),
            input: bind(),
            receivers: (0..EGRESSES).map(|_| bind()).collect(),
            allocated,
        };
        let egresses: Vec<_> = over.receivers.iter().map(ProbeSocket::local_addr).collect();
        for command in set_up(over.input.local_addr(), &egresses) {
            over.handle.send(command).unwrap();
        }
        over
    }

    /// Takes a moment's trains through; gives the bursts of all trains together, the packets, and the arrivals.
    fn take(&self, moment: &Moment) -> [u64; 3] {
        let (mut bursts, mut packets) = (0, 0);
        for train in moment {
            let media: Vec<_> = testkit::datagrams(train)
                .iter()
                .filter_map(burst_of)
                .collect();
            packets += media.len() as u64;
            bursts += BTreeSet::from_iter(media).len() as u64;
            let to = self.handle.local_addr();
            self.input
                .send(to, &train.bytes, train.segment_bytes)
                .unwrap();
        }
        let arrivals = self
            .receivers
            .iter()
            .map(|receiver| receive(receiver, packets));
        let arrivals = arrivals.sum();
        [bursts, packets, arrivals]
    }

    fn count(self, traffic: &[Moment]) -> DidOver {
        let (mut did, mut bursts) = (DidOver::default(), 0);
        for moment in &traffic[..WARM_UP] {
            self.take(moment);
        }
        let (before, allocated) = (self.handle.fresh_counters(), self.allocated.load(Relaxed));
        for moment in &traffic[WARM_UP..] {
            let [more, packets, arrivals] = self.take(moment);
            (bursts, did.packets) = (bursts + more, did.packets + packets);
            did.arrivals += arrivals;
        }
        did.allocated = self.allocated.load(Relaxed) - allocated;
        let after = self.handle.stop();
        let heads = |counters: &WorkerCounters| counters.lane.ledger.repair.heads_sent;
        did.due = bursts * EGRESSES as u64 + heads(&after) - heads(&before);
        did.calls = after.send.calls - before.send.calls;
        did.receives = after.receives - before.receives;
        assert_eq!(after.send.sent, after.send.given);
        assert!(did.packets > COUNTED as u64 * 15, "{did:?}");
        did
    }
}

/// Receives so many packets; gives in how many pieces they came.
fn receive(receiver: &ProbeSocket, packets: u64) -> u64 {
    let (mut heard, mut pieces) = (0, 0);
    let mut buffer = [0; 64];
    while heard < packets {
        let arrival = receiver.receive(&mut buffer).unwrap();
        if Kind::of(&buffer) == Kind::Media {
            heard += arrival.bytes.div_ceil(arrival.segment_bytes) as u64;
            pieces += 1;
        }
    }
    pieces
}

#[cfg(target_os = "linux")]
#[test]
fn over_real_sockets_each_burst_is_one_system_call_for_each_egress_and_nothing_is_allocated_by_the_packet()
 {
    let traffic = traffic(mix);
    for host in ["127.0.0.1:0", "[::1]:0"] {
        let did = Over::new(host, SocketSettings::default()).count(&traffic);

        assert_eq!(did.calls, did.due, "{host}: {did:?}");
        assert!(did.arrivals <= did.due, "{host}: {did:?}");
        let most = ALLOCATED_PER_RECEIVE * did.receives + ALLOCATED_BY_TIME;
        assert!(
            did.allocated <= most && most < did.packets,
            "{host}: {did:?}"
        );
    }
}

#[test]
fn without_gso_each_packet_is_counted_as_a_system_call() {
    let settings = SocketSettings {
        gso: false,
        ..SocketSettings::default()
    };

    let did = Over::new("127.0.0.1:0", settings).count(&traffic(mix));

    assert_eq!(did.arrivals, did.packets * EGRESSES as u64);
    assert!(
        did.calls >= did.arrivals && did.arrivals > 2 * did.due,
        "{did:?}"
    );
}
