//! Every timer and every limit of a lane, in one place.
//!
//! To change how much of something there may be, or for how long, change it here and nowhere else. What a peer relies
//! on is said by docs/wire.md as well. Not what happens at a limit: each constant says it, the part named by its
//! heading does it. Used by the parts of this crate and by tests. Invariant: nothing in this crate waits for a time, or
//! holds a number of things, that is not named here.

use std::time::Duration;

use levada_wire::Bitrate;
use levada_wire::datagram::link::BITMAP_BYTES_MAX;
use levada_wire::frame::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES};
use levada_wire::machine::OUTPUTS_PER_CALL_MAX;
use levada_wire::packet::parity::{BLOCK_PACKETS_MAX, BLOCK_SHARDS_MAX};
use levada_wire::packet::{BURST_PACKETS_MAX, PACKET_BYTES_MAX};

// Packets and runs: `forward.rs`, `flow/run.rs`

/// The most bytes of one send: what an IPv4 UDP datagram can hold, which is what the kernel checks for GSO too.
pub const RUN_BYTES_MAX: usize = 65_507;

/// The most packets of one send. Linux took 64 before 6.9 and 128 since (`UDP_MAX_SEGMENTS`, include/linux/udp.h).
pub const RUN_PACKETS_MAX: usize = 64;

/// The most datagrams of one train: what the kernel joins (`UDP_GRO_CNT_MAX`, net/ipv4/udp_offload.c).
pub(crate) const TRAIN_SEGMENTS_MAX: usize = RUN_PACKETS_MAX;

/// How far behind the highest number a packet may come at least and still be told from a second copy.
///
/// 8,192 numbers are 20 s at 4 Mb/s and 80 ms at 1 Gb/s, in 1 KiB. It also covers a newcomer's catch-up of 10 MB
/// that live packets overtake on the way. A flow that needs more for its peak and its budget gets it: `flow/reach.rs`.
pub(crate) const WINDOW_NUMBERS: u64 = 8_192;

/// The widest window, in 8 KiB: half a second at 1 Gb/s, five at 100 Mb/s.
pub(crate) const WINDOW_NUMBERS_MAX: u64 = 65_536;

/// How many of the numbers in a window may be lacking when it is moved over more: 3 of 4. What is left is for those
/// that come while the one that leapt ahead goes on.
pub(crate) const LACKED_PARTS: (u64, u64) = (3, 4);

/// Bytes of a packet where its flow's packets are counted beforehand: bursts end with smaller ones.
pub(crate) const PACKET_BYTES_MEAN: u64 = 1_000;

/// So many packets in a row, each by itself beyond what the flow explains, show that it goes on there.
pub(crate) const STRAYS_CONFIRM: u8 = 8;

/// Two packets that are farther apart do not confirm one another: one send's worth.
pub(crate) const STRAY_STEP_MAX: u64 = RUN_PACKETS_MAX as u64;

/// Nothing that explains itself has come for so long: the flow may go on elsewhere.
pub(crate) const LINE_QUIET: Duration = Duration::from_millis(50);

/// The most beginnings of other lines that are remembered of one upstream: it cannot displace another's.
pub(crate) const STRAYS_PER_UPSTREAM: usize = 2;

/// The most former lines of a flow, each of some 1 KiB: the one by which most came is kept longest.
pub(crate) const FORMER_LINES_MAX: usize = 3;

/// A line that begins no farther ahead goes on from the one before it, and what lies between is missing: 6 s at
/// 100 Mb/s.
pub(crate) const LINE_GAP_MAX: u64 = 65_536;

/// The most packets of a flow that wait for its key: 600 ms at 4 Mb/s, far above a control round trip.
pub const EARLY_PACKETS_MAX: usize = 256;

/// How late a key may be for which a newcomer's packets wait, where that is more than [`EARLY_PACKETS_MAX`].
pub(crate) const KEY_LATE: Duration = Duration::from_millis(60);

/// The most packets of any flow that wait for its key.
pub(crate) const EARLY_REACH_MAX: usize = 2_048;

/// The most packets of all flows of a lane that wait for keys, unproven: 24 MB.
pub(crate) const EARLY_IN_ALL_MAX: u64 = 16_384;

/// The key epochs that are held: the present one, and the one before or after it.
pub(crate) const EPOCHS_MAX: usize = 2;

/// Work that does not fit in the outputs of one call goes on after this.
pub(crate) const CONTINUE_AFTER: Duration = Duration::from_micros(1);

// The cache: `flow/cache.rs`

/// The most runs of one flow's cache: 27 minutes of 10 ms bursts. Bounds the sends that one newcomer causes.
pub(crate) const CACHE_RUNS_MAX: usize = 16_384;

/// How long packets before the join point are kept at least: a few round trips around the world.
pub(crate) const REPAIR_KEPT: Duration = Duration::from_secs(1);

/// How often a lane may ask the others for room that its flows have a right to.
pub(crate) const ROOM_ASKED_EVERY: Duration = Duration::from_millis(100);

/// The smallest chunk of copies. Between this and [`CHUNK_BYTES_MAX`] them a chunk is an eighth of what is held, so
/// that what a cache charges is little more than it holds, however slow the flow.
pub(crate) const CHUNK_BYTES_MIN: usize = 2 << 10;

/// The largest chunk of copies.
pub(crate) const CHUNK_BYTES_MAX: usize = 64 << 10;

/// A chunk is this part of what is held.
pub(crate) const CHUNK_PART: usize = 8;

/// The peak of a flow while nobody has said it.
pub(crate) const PEAK_UNTOLD: Bitrate = Bitrate(4_000_000);

// Links and upstreams: `link.rs`, `flow/upstream.rs`, `flow/closed.rs`

/// The most lanes of a peer whose datagrams are told apart: more than one lane per core of a large machine.
pub(crate) const PEER_LANES_MAX: usize = 64;

/// Datagrams that make one sample of a link's loss: fewer, and what a few of them lost would count for much.
pub(crate) const LOSS_SAMPLE: u64 = 256;

/// A new sample of loss counts for this part.
pub(crate) const LOSS_WEIGHT: i64 = 4;

/// The most links that are remembered as upstreams of one flow, former ones included.
pub(crate) const UPSTREAMS_MAX: usize = 16;

/// How long a closed flow is remembered: a cancel's way to the upstream and a full queue's way back.
pub(crate) const CLOSED_FOR: Duration = Duration::from_secs(2);

/// The most closed flows that are remembered; with their windows some 100 KiB, or 16 times that after as many moves
/// each.
pub(crate) const CLOSED_MAX: usize = 64;

// Children and what waits for them: `child.rs`

/// The most egresses of one flow. With [`RUN_PACKETS_MAX`] it bounds what one received train causes. An egress is a
/// link: in a node the limit of links binds first.
pub(crate) const EGRESSES_MAX: usize = 1_000;

/// The most former egresses of which it is remembered what they were sent of late.
pub(crate) const FORMER_MAX: usize = EGRESSES_MAX;

/// How far the admitted peak may be gone beyond before an egress is held: one second of it, which takes 0.8 s to refill
/// at [`PEAK_HEADROOM`]. A stream that keeps its peak over a second, large pictures and all, is never held.
pub(crate) const LIVE_DEPTH: Duration = Duration::from_millis(800);

/// The bucket fills by the peak and one part in this many: the peak is of what was published, and packets have headers.
pub(crate) const PEAK_HEADROOM: u64 = 4;

/// As a newcomer a link is sent twice the peak over time, and this long of that at once: a few groups.
pub(crate) const CATCH_UP_DEPTH: Duration = Duration::from_secs(2);

/// Who goes along with a flow that catches up may owe that long of twice the peak: a group of 20 s.
pub(crate) const GO_ALONG_MAX: Duration = Duration::from_secs(10);

/// How often a lane looks whether another has a slot to spare for its newcomers.
pub(crate) const SLOT_LOOK_EVERY: Duration = Duration::from_millis(2);

/// The most newcomers of a lane that wait for their turn; one more begins with the next group.
pub(crate) const QUEUED_MAX: usize = 4_096;

/// The most interfaces that are told apart; links of further ones share one.
pub(crate) const INTERFACES_MAX: usize = 64;

/// Of its rate an interface uses one part in this many for newcomers.
pub(crate) const CATCH_UP_SHARE: u64 = 4;

/// A newcomer is sent its group at this many times the flow's peak: caught up after a seventh of the group's time.
pub(crate) const CATCH_UP_HASTE: u64 = 8;

/// How long a flow is watched before it counts as coming faster than it was sent: more than most jitter.
pub(crate) const HASTE_STEP: Duration = Duration::from_millis(20);

/// How long it counts as that after it was last seen to: newcomers of a parent are served in turns.
pub(crate) const HASTE_KEPT: Duration = Duration::from_millis(100);

/// For so many rounds a newcomer that comes no nearer is served all the same while the flow itself catches up.
pub(crate) const ROUNDS_UNJUDGED_MAX: u8 = 64;

/// How long a child that moved here and is ahead is not sent what it has: far longer than two ways differ.
pub(crate) const MOVED_FOR: Duration = Duration::from_secs(1);

/// What may leave at once to those that catch up, as time at their rate: more than the worker's timers are late.
pub(crate) const CATCH_UP_AT_ONCE: Duration = Duration::from_millis(5);

/// The oldest that a packet may become while it waits for its egress.
pub(crate) const BACKLOG_MAX: Duration = Duration::from_millis(200);

/// A child that is behind waits for the next group if that is so near; else it misses what is too much, and goes on.
pub(crate) const NEXT_NEAR: Duration = Duration::from_secs(1);

/// When something is given up, so much that the rest is sent within this: not again for the next packet.
pub(crate) const BACKLOG_AFTER: Duration = Duration::from_millis(150);

/// The oldest that a packet may become while its pace holds it: a picture that takes longer is too large for its path.
pub(crate) const PACED_BACKLOG_MAX: Duration = Duration::from_secs(1);

/// The most ranges that are remembered of one egress; of more the oldest is forgotten.
pub(crate) const WITHHELD_RANGES_MAX: usize = 64;

/// How long what was withheld is remembered: nobody asks for what is older.
pub(crate) const WITHHELD_FOR: Duration = Duration::from_secs(5);

/// The most datagrams that say GONE at a time.
pub(crate) const GONES_MAX: u64 = 16;

/// The most numbers that are said at a time; of more the newest are: older ones are too late anyway.
pub(crate) const GONE_NUMBERS_MAX: u64 = GONES_MAX * NUMBERS_PER_DATAGRAM;

/// While packets pass that an egress is not sent, it hears of them this often.
pub(crate) const GONE_INTERVAL: Duration = Duration::from_millis(50);

/// Room for outputs that one egress needs to get on: a run, and what says GONE.
pub(crate) const PACE_ROOM_MIN: usize = 2 * GONES_MAX as usize;

// The pace of a child over a path that nobody knows: `child/pacer.rs`, `flow/rate.rs`

/// A step of the second over which a flow's rate is measured.
pub(crate) const RATE_STEP: Duration = Duration::from_millis(100);

/// Steps in a second.
pub(crate) const RATE_STEPS: usize = 10;

/// What came of a flow counts as if at least this had passed since its first packet: a group begins with its largest
/// picture.
pub(crate) const RATE_FIRST: Duration = Duration::from_millis(500);

/// The most of this time and of as much before it is what a flow needs: a group of ten seconds and its neighbour.
pub(crate) const RATE_PART: Duration = Duration::from_secs(20);

/// The most packets of a send: 9.9 KB, which the shortest queues of home routers hold twice.
pub(crate) const PACE_SEND_PACKETS: usize = 8;

/// The longest that a send may take at the pace: what a queue of 10 ms at twice the flow's rate holds.
pub(crate) const PACE_SEND: Duration = Duration::from_millis(10);

/// What may leave beside the send that is due, as time at the pace: as much as a worker's timer may be late.
pub(crate) const PACE_DEPTH: Duration = Duration::from_millis(2);

/// The slowest pace.
pub(crate) const PACE_MIN: Bitrate = Bitrate(1_000_000);

/// Where a pace begins, in sixteenths of what the flow needs.
pub(crate) const PACE_START: u64 = 24;

/// The slowest that a pace becomes, in sixteenths of what the flow needs: it must come to an end with each group.
pub(crate) const PACE_FLOOR: u64 = 18;

/// The fastest that a pace becomes, in sixteenths of what the flow needs: as fast as newcomers on a LAN.
pub(crate) const PACE_CEILING: u64 = 16 * CATCH_UP_HASTE;

/// What leaves at the fastest pace of what a child lacks that moved here: two sends, as the shortest queues hold.
pub(crate) const PACE_HASTE_BYTES: usize = 20_000;

/// What a path may lose by chance before its loss is known, of a thousand datagrams.
pub(crate) const PACE_LOSS_UNKNOWN_PERMILLE: u32 = 30;

/// The largest picture takes longer than a child waits for so long before that is told: a pace finds its rate first.
pub(crate) const PACE_SLOW_FOR: Duration = Duration::from_secs(3);

/// So many packets after a pause are a head: one send.
pub(crate) const PACE_HEAD_PACKETS: u64 = PACE_SEND_PACKETS as u64;

/// A tail of so many packets says something.
pub(crate) const PACE_TAIL_MIN: u64 = 16;

/// Of a stretch that goes on so many packets are judged at a time.
pub(crate) const PACE_STRETCH_PACKETS: u64 = 128;

/// A stretch is judged so long after what it lost could be asked for: when two pictures have followed it.
pub(crate) const PACE_JUDGED_AFTER: Duration = Duration::from_millis(60);

/// The most stretches that are not judged yet; of more the oldest is forgotten.
pub(crate) const STRETCHES_MAX: usize = 64;

/// A rate that was too high is tried again after this, then after twice as long ...
pub(crate) const PACE_RETRY: Duration = Duration::from_secs(10);

/// ... and after this at last.
pub(crate) const PACE_RETRY_MAX: Duration = Duration::from_secs(80);

/// A round trip that has grown by this, and by half, goes through a queue that the pace fills.
pub(crate) const PACE_TRIP_GROWTH: Duration = Duration::from_millis(20);

/// The least round trip of this time and of as much before it is what others are held against.
pub(crate) const PACE_TRIP_PART: Duration = Duration::from_secs(30);

/// Packets that a child asked for and that wait for its pace; what is asked for beyond is not sent.
pub(crate) const PACED_REPAIRS_MAX: usize = 1_024;

/// Blocks whose parity waits for a pace.
pub(crate) const PACED_PARITY_MAX: usize = 16;

/// The most newcomers of an interface that are sent something at a time and are paced.
pub(crate) const PACED_NEWCOMERS_MAX: usize = 64;

// Channel: `flow/multicast.rs`, `repair/backoff.rs`

/// The most channels by which flows of a lane come.
pub(crate) const CHANNELS_MAX: usize = 1_024;

/// The most multicast egresses of one flow: a few interfaces, and both groups of each while they change over.
pub(crate) const MULTICAST_EGRESSES_MAX: usize = 4;

/// The most members of one group.
pub(crate) const MEMBERS_MAX: usize = 1_024;

/// Packets of which it is remembered when they last went to the group.
pub(crate) const CHANNEL_REPAIRS_MAX: usize = 1_024;

/// The longest back-off: twenty times what a question and its answer take on a LAN, and little of any budget.
pub(crate) const BACK_OFF_MAX: Duration = Duration::from_millis(20);

// Repair: `repair.rs`

/// The most packets that one datagram can name: a bit each, and the first.
pub(crate) const NUMBERS_PER_DATAGRAM: u64 = 8 * BITMAP_BYTES_MAX as u64 + 1;

/// The most messages that answer one request: those that name what is pending and what is gone.
pub(crate) const ANSWERS_MAX: usize = 2;

/// Repaired packets that a child may be sent at once, of a flow that needs no more for its peak and its budget: two
/// seconds at 4 Mb/s.
pub(crate) const REPAIR_CREDIT: u64 = 1_024;

/// The same of any flow: as much as may be missing.
pub(crate) const REPAIR_CREDIT_MAX: u64 = MISSING_MAX as u64;

/// Packets of which it is remembered when a child was sent them again, of all flows of a lane together: 5 MB, and
/// 700 ms of 100 children that lose a tenth of a flow of 8 Mb/s.
pub(crate) const REPAIRED_MAX: usize = 65_536;

/// From this time on that a packet is asked for, two copies of it are sent at once.
pub(crate) const TWICE_FROM: u8 = 3;

/// The most missing numbers of a flow that needs no more for its peak and its budget: 8 s of silence at 4 Mb/s.
pub(crate) const MISSING_MIN: usize = 4_096;

/// The most missing numbers of any flow, some 5 MB: 2.6 s of silence at 100 Mb/s.
pub(crate) const MISSING_MAX: usize = 32_768;

/// The shortest time between two requests for a flow over one link.
pub(crate) const NACK_INTERVAL: Duration = Duration::from_millis(5);

/// On a link as long as this a request is said twice, [`NACK_INTERVAL`] apart: the second is ignored if the first came.
pub(crate) const REPEAT_TRIP_MIN: Duration = Duration::from_millis(20);

/// The round trip that is assumed before the first sample.
pub(crate) const TRIP_UNKNOWN: Duration = Duration::from_millis(100);

/// A longer trip is no answer to a question of ours.
pub(crate) const TRIP_MAX: Duration = Duration::from_secs(5);

/// The shortest time between two tries: below it the timers of hosts decide, not the link.
pub(crate) const RETRY_MIN: Duration = Duration::from_millis(10);

/// The longest that packets may be late before they count as lost, on a way that has not shown to take longer.
pub(crate) const REORDER_MAX: Duration = Duration::from_millis(5);

/// By how much packets were overtaken counts a quarter less after each such time in which it was not seen again: what
/// it costs to find out again is less than a twentieth of a second's packets.
pub(crate) const REORDER_FADES_AFTER: Duration = Duration::from_secs(4);

/// The most packets of a flow of which it is remembered that they came before an answer could: 100 ms at 100 Mb/s.
pub(crate) const REORDER_ASKED_MAX: usize = 1_024;

/// Half of the window of an upstream's zero: the least offset of this part and of the one before it count.
pub(crate) const BASELINE_PART: Duration = Duration::from_secs(15);

/// ArrivalBaseline rises by a two-thousandth of the time that passes: 0.5 ms in a second.
pub(crate) const BASELINE_SLEW: u64 = 2_000;

/// How often HEAD is said after the last packet.
pub(crate) const HEADS_MAX: u8 = 6;

/// The shortest time after which a flow is quiet, and its head is said.
pub(crate) const HEAD_QUIET_MIN: Duration = Duration::from_millis(10);

/// The longest such time.
pub(crate) const HEAD_QUIET_MAX: Duration = Duration::from_millis(150);

/// The longest pause of late fades by this part with each run.
pub(crate) const HEAD_FADING: u32 = 256;

// Suspicion: `flow/pauses.rs`, `flow/suspicion.rs`

/// The shortest silence of a flow that makes an upstream suspect.
pub(crate) const SUSPECT_MIN: Duration = Duration::from_millis(60);

/// An upstream that was heard so much earlier than another is asked for nothing that the other may have.
pub(crate) const QUIET_BEHIND: Duration = Duration::from_millis(60);

/// So many times the pause that a flow hardly ever exceeds.
pub(crate) const SUSPECT_PAUSES: u32 = 4;

/// So many pauses must be known.
pub(crate) const PAUSES_MIN: u32 = 32;

/// Of that many pauses each counts half.
pub(crate) const PAUSES_KEPT: u32 = 512;

/// A timer that fires this late means that this node did not run: what it did not hear then was not silence.
pub(crate) const OWN_LATENESS: Duration = Duration::from_millis(50);

/// A flow that begins in the middle of a group begins no farther than this before what comes: two seconds at 4 Mb/s.
pub(crate) const BEGIN_BEFORE_MAX: u64 = 1_024;

// Parity: `repair/parity.rs`

/// From this loss on parity is sent, of a thousand datagrams.
pub(crate) const PARITY_ON_PERMILLE: u32 = 10;

/// Below this loss it is not sent any more.
pub(crate) const PARITY_OFF_PERMILLE: u32 = 3;

/// Parity is at most this part of its block.
pub(crate) const PARITY_SHARE: usize = 2;

/// A block of so many packets ends: more would make parity a little smaller and every shard dearer.
pub(crate) const BLOCK_FULL: usize = 40;

/// A block of so many packets ends with a burst, since the next one may be a picture away.
pub(crate) const BLOCK_ENOUGH: usize = 16;

/// A block ends when it is this part of a child's budget old.
pub(crate) const BLOCK_AGE_PART: u32 = 10;

/// How often it is looked at which egress wants parity.
pub(crate) const PARITY_REVIEW_EVERY: Duration = Duration::from_millis(250);

/// After the last shard parity is expected for so long: four times the pause between two pictures of a very slow
/// stream.
pub(crate) const PARITY_HEARD_FOR: Duration = Duration::from_secs(1);

/// The most blocks that are known of a flow: half a second of one that makes a block for each of 30 pictures a second.
pub(crate) const BLOCKS_MAX: usize = 16;

// Origin and consumer: `origin.rs`, `reassembly.rs`

/// The shortest group, by the leading track's decoding times.
pub const GROUP_MIN: Duration = Duration::from_millis(500);

/// The shortest group when every frame of the leading track can start one.
pub const GROUP_MIN_ALL_SYNC: Duration = Duration::from_secs(1);

/// The longest a frame may wait for others to share its burst.
pub const FLUSH_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// No group has more packets: far above any group, far below what `offset` can count.
pub(crate) const GROUP_PACKETS_MAX: u64 = 1 << 31;

/// A step of the window in which an origin measures its rate.
pub(crate) const METER_STEP_MILLIS: u64 = 100;

/// Steps that have a whole second within them, wherever it begins.
pub(crate) const METER_STEPS: usize = 11;

/// Steps between two sayings of the rate.
pub(crate) const METER_SAID_EVERY: u64 = 10;

/// The most packets that wait for an earlier one: a group of 19 MB, or 200 ms at 780 Mb/s.
pub const WAITING_PACKETS_MAX: usize = 16_384;

/// The most bytes of one burst: the largest frame, and a send's worth that may ride with it.
pub const BURST_BYTES_MAX: usize = FRAME_BYTES_MAX + (256 << 10);

/// The most frames of one burst. An origin's bursts have at most 3,470, which is asserted below.
pub const FRAMES_PER_BURST_MAX: usize = 4_096;

const _: () = {
    assert!(
        (EGRESSES_MAX + MULTICAST_EGRESSES_MAX) * RUN_PACKETS_MAX + FRAMES_PER_BURST_MAX
            < OUTPUTS_PER_CALL_MAX,
        "one train with a burst per packet fits in the outputs of one call"
    );
    assert!(
        FRAMES_PER_BURST_MAX * 2 < OUTPUTS_PER_CALL_MAX,
        "a consumer moves in every call"
    );
    assert!(
        2 * NUMBERS_PER_DATAGRAM as usize + ANSWERS_MAX <= EGRESSES_MAX,
        "a request causes no more than a packet does"
    );
    assert!(
        BLOCK_FULL <= BLOCK_PACKETS_MAX && BLOCK_FULL / PARITY_SHARE <= BLOCK_SHARDS_MAX,
        "a block fits in its datagrams"
    );
    assert!(
        BURST_PACKETS_MAX * PACKET_BYTES_MAX / FRAME_HEADER_BYTES <= FRAMES_PER_BURST_MAX,
        "a burst is full of bytes before it is full of frames"
    );
};
