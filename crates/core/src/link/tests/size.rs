//! The packet size of a link, between one machine and a path that is as wide as the test says.

use super::*;
use levada_wire::datagram::link::SHORT_PING_BYTES;

use crate::limits::{
    SIZE_AGAIN, SIZE_CHECK_ACTIVE, SIZE_CHECK_IDLE, SIZE_MUTE_PONGS, SIZE_PACE, SIZE_SHORT_PONGS,
};

/// A path: what is larger is lost, and of the rest what `loses` says.
struct Path {
    links: Links,
    now: Instant,
    width: usize,
    loses: fn(u64) -> bool,
    /// Whether the peer ignores what is behind a ping's fields.
    is_old: bool,
    pings: u64,
    told: Vec<(usize, bool)>,
    padded: usize,
}

fn size(bytes: u16) -> PacketSize {
    PacketSize::new(bytes).unwrap()
}

impl Path {
    fn new(width: usize) -> Self {
        Self::with(width, false)
    }

    fn with(width: usize, is_old: bool) -> Self {
        let mut links = links();
        links.handle_input(at(0), connected(LINK, 2, None));
        links.handle_input(at(0), hello(LINK, 1));
        let mut path = Self {
            links,
            now: at(0),
            width,
            loses: |_| false,
            is_old,
            pings: 0,
            told: Vec::new(),
            padded: 0,
        };
        path.collect();
        path
    }

    /// Hands answers in at once, until there is nothing more to answer.
    fn collect(&mut self) {
        while let Some(output) = self.links.poll_output() {
            match output {
                Output::Outside(api::Output::Link(
                    _,
                    LinkCommand::Send(LinkDatagram::Ping(ping)),
                )) => {
                    self.pings += 1;
                    self.padded += usize::from(usize::from(ping.size()) > SHORT_PING_BYTES);
                    let is_lost = usize::from(ping.size()) > self.width || (self.loses)(self.pings);
                    let padding = if self.is_old { 0 } else { ping.padding };
                    if !is_lost {
                        let answer = pong(&Ping { padding, ..ping });
                        self.links.handle_input(self.now, answer);
                    }
                }
                Output::Path(link, border::Path::Size(size)) => {
                    assert_eq!(link, LINK);
                    self.told.push((size.size.bytes(), size.is_trying));
                }
                _ => {}
            }
        }
    }

    fn input(&mut self, input: Input) {
        self.links.handle_input(self.now, input);
        self.collect();
    }

    fn wants(&mut self, sizes: &[u16]) {
        self.input(Input::Sizes(
            sizes.iter().map(|bytes| size(*bytes)).collect(),
        ));
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(wakeup) = self
            .links
            .poll_timeout()
            .filter(|wakeup| wakeup.at <= until)
        {
            self.now = wakeup.at;
            self.links.handle_timeout(self.now);
            self.collect();
        }
        self.now = until;
    }

    /// How large packets may be, and whether that is proven, as people see it.
    fn shown(&self) -> (usize, bool) {
        let row = self.links.rows(None).next().unwrap();
        (row.packet_bytes.unwrap().bytes(), row.is_packet_size_proven)
    }
}

/// As long as it takes to find out that one size is too large.
const VERDICT: Duration = Duration::from_millis(100 * (SIZE_SHORT_PONGS as u64 + 1));

#[test]
fn what_any_path_carries_is_assumed_and_then_proven_by_one_ping() {
    let mut deaf = Path::new(0);
    deaf.loses = |_| true;

    let path = Path::new(1_500);
    deaf.pass(SIZE_PACE);

    assert_eq!((path.shown(), path.padded), ((1_232, true), 1));
    assert_eq!(path.told, []);
    assert_eq!((deaf.shown(), deaf.told), ((1_232, false), vec![]));
}

#[test]
fn the_largest_size_that_a_stream_has_is_proven_within_a_round_trip() {
    let mut path = Path::new(1_440);

    path.wants(&[1_232, 1_300, 1_440]);

    assert_eq!(path.told.last(), Some(&(1_440, false)));
    assert_eq!(path.padded, 2, "the default, and the largest");
}

#[test]
fn of_several_sizes_the_largest_that_gets_through_is_found() {
    let mut path = Path::new(1_372);

    path.wants(&[1_250, 1_300, 1_350, 1_380, 1_400, 1_440]);
    assert_eq!(
        path.told,
        [(1_232, true)],
        "a child may wait for the verdict"
    );
    path.pass(3 * VERDICT);

    assert_eq!(path.told.last(), Some(&(1_350, false)));
    assert_eq!(path.shown(), (1_350, true));
}

#[test]
fn a_path_too_narrow_for_the_default_carries_what_the_handshake_proved() {
    let mut path = Path::new(1_220);

    path.pass(VERDICT);
    let before = path.padded;
    path.pass(Duration::from_secs(10));

    assert_eq!(path.told, [(1_200, false)]);
    assert_eq!(path.padded, before, "it is not tried again so soon");
}

#[test]
fn a_path_that_becomes_narrow_is_noticed_and_one_that_becomes_wide_too() {
    let mut path = Path::new(1_440);
    path.wants(&[1_300, 1_440]);
    path.input(Input::Active {
        link: LINK,
        active: true,
    });
    path.told.clear();

    path.width = 1_310;
    path.pass(SIZE_CHECK_ACTIVE + VERDICT);
    assert_eq!(
        path.told,
        [(1_300, false)],
        "it falls once, to what it carries"
    );

    path.width = 1_500;
    path.pass(SIZE_AGAIN + SIZE_CHECK_ACTIVE + VERDICT);
    assert_eq!(path.told.last(), Some(&(1_440, false)));
}

#[test]
fn what_the_system_does_not_send_is_too_large_at_once() {
    let mut path = Path::new(1_440);
    path.wants(&[1_440]);
    path.told.clear();

    path.width = 1_300;
    path.input(Input::Lane(LINK, LinkEvent::TooLarge { bytes: 1_440 }));

    assert_eq!(path.told, [(1_232, false)]);
    path.input(Input::Lane(LINK, LinkEvent::TooLarge { bytes: 9 }));
    path.input(Input::Lane(LINK, LinkEvent::TooLarge { bytes: 70_000 }));
    assert_eq!(path.shown(), (1_232, true), "no packet has such a size");
}

/// Whether one of so many in a hundred falls on this one: noise (the finaliser of SplitMix64), in no step with
/// anything.
fn falls_on(number: u64, percent: u64) -> bool {
    let noise = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let noise = (noise ^ noise >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let noise = (noise ^ noise >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    (noise ^ noise >> 31) % 100 < percent
}

#[test]
fn loss_is_no_narrowness() {
    let mut path = Path::new(1_440);
    path.wants(&[1_440]);
    path.input(Input::Active {
        link: LINK,
        active: true,
    });
    path.told.clear();
    // Some 15% each way.
    path.loses = |ping| falls_on(ping, 28);

    for _ in 0..36_000 {
        path.pass(Duration::from_millis(100));
        // The peer's pings arrive, or nothing would be heard for too long some time.
        path.input(ping(LINK));
    }

    let falls = path.told.iter().filter(|(bytes, _)| *bytes < 1_440);
    assert_eq!(falls.count(), 0);
    assert_eq!(path.shown(), (1_440, true));
}

#[test]
fn an_idle_link_is_checked_rarely() {
    let mut path = Path::new(1_440);
    let before = path.padded;

    path.pass(10 * SIZE_CHECK_IDLE);

    assert!((9..=11).contains(&(path.padded - before)));
}

// spec: WIRE 8.2 a peer whose pongs never name a size knows no padding, and nothing is concluded from it
#[test]
fn a_peer_that_knows_no_padding_is_not_taken_for_a_narrow_path() {
    // Its largest link datagram has 512 bytes: it drops what is larger.
    let mut path = Path::with(512, true);
    path.wants(&[1_232]);
    path.input(Input::Active {
        link: LINK,
        active: true,
    });

    path.pass(SIZE_CHECK_IDLE / 2);

    assert_eq!((path.shown(), path.told), ((1_232, false), vec![]));
    assert!(path.padded <= SIZE_MUTE_PONGS as usize, "{}", path.padded);
}

#[test]
fn streams_that_come_and_go_put_off_no_check() {
    let mut path = Path::new(1_440);
    path.wants(&[1_440]);
    path.input(Input::Active {
        link: LINK,
        active: true,
    });

    path.width = 1_300;
    for second in 0..8 {
        path.wants(&[1_440, 1_250 + second]);
        path.pass(SIZE_CHECK_ACTIVE / 2);
    }

    assert!(path.shown().0 <= 1_300, "{:?}", path.shown());
}
