//! Every timer and every limit of the control core, in one place.
//!
//! To change how fast something is noticed, or how much of something there may be, change it here and nowhere
//! else. What a peer relies on is said by docs/wire.md as well: those constants name the section. Not what happens
//! at a limit: each constant says it, the part named by its heading does it. Used by the parts of this crate and by
//! tests. Invariant: nothing in this crate waits for a time, or holds a number of things, that is not named here.

use std::time::Duration;

use levada_wire::Distance;

// Links: `link.rs`

/// The most links of one node, those being greeted included. One more that another opens is closed as `Full`; those to
/// configured neighbours, at most [`NEIGHBOURS_MAX`], are never refused for it.
pub const LINKS_MAX: usize = 256;

/// The most links that there can be with that.
pub const LINKS_IN_ALL_MAX: usize = LINKS_MAX + NEIGHBOURS_MAX;

/// The most links that others open from one address ([`crate::subnet`]); one more is closed as `Crowded`. This
/// machine's own addresses have no such limit.
pub const LINKS_PER_ADDRESS_MAX: usize = LINKS_MAX / 2;

/// How long a connection may stay without a hello. Also in docs/wire.md 7.1.
pub const GREETING_MAX: Duration = Duration::from_secs(5);

/// The most messages that wait for the hello of their link. One more closes it. Also in docs/wire.md 7.1.
pub const HELD_MESSAGES_MAX: usize = 64;

/// So many former lives of a peer are remembered while it is linked: one that comes back is a copy of its key.
pub const FORMER_BOOTS_MAX: usize = 8;

/// Between two words to the user that a peer's key has a copy.
pub const COPY_WARNING: Duration = Duration::from_secs(60);

/// A timer that fires this late means that this node did not run.
pub const OWN_LATENESS: Duration = Duration::from_millis(50);

// Liveness: `link/liveness.rs`

/// Between pings while a flow uses the link. Also in docs/wire.md 8.2.
pub const PING_ACTIVE: Duration = Duration::from_millis(100);

/// Between pings while a flow uses the link and its peer is suspect. Also in docs/wire.md 8.2.
pub const PING_SUSPECT: Duration = Duration::from_millis(25);

/// Between pings otherwise. Also in docs/wire.md 8.2.
pub const PING_IDLE: Duration = Duration::from_secs(1);

/// How long the pong is waited for while idle before pings come as quickly as while active, until one is answered;
/// twice the round trip where that is longer. Also in docs/wire.md 8.2.
pub const PING_ANSWER: Duration = Duration::from_millis(400);

/// Silence after which a peer is suspect, while a flow uses the link; where that is longer, a round trip, four times
/// its deviation, and [`SUSPECT_LATE`].
pub const SUSPECT_ACTIVE: Duration = Duration::from_millis(150);

/// How late the pong to the first of the quick pings may be.
pub const SUSPECT_LATE: Duration = Duration::from_millis(50);

/// The same while idle: a dozen pings unanswered, the first of which was slow. Longer by as much as a pong is waited
/// for longer than [`PING_ANSWER`].
pub const SUSPECT_IDLE: Duration = Duration::from_millis(2_500);

/// Silence after which a peer is dead, while a flow uses the link: a dozen pings unanswered, most of them quick; where
/// that is longer, a round trip, four times its deviation, and [`DEAD_LATE`].
pub const DEAD_ACTIVE: Duration = Duration::from_millis(400);

/// The pongs to three quick pings are lost before a peer that is far away is dead.
pub const DEAD_LATE: Duration = Duration::from_millis(200);

/// The same while idle: two dozen pings unanswered; longer where the same of a suspect is. Longer than the bursts of
/// loss of a path that is worth keeping.
pub const DEAD_IDLE: Duration = Duration::from_secs(4);

/// What a round trip is taken for until the first is measured (RFC 6298 section 2.1).
pub const TRIP_UNKNOWN: Duration = Duration::from_secs(1);

/// The least round trip is that of so long, and up to twice as long.
pub const RTT_KEPT: Duration = Duration::from_secs(30);

/// A round trip has grown when it is half as long again as the least one, and this much longer.
pub const RTT_GROWN_BY: Duration = Duration::from_millis(20);

/// Loss is measured over at least this long.
pub const LOSS_WINDOW: Duration = Duration::from_secs(2);

// Packet size: `link/size.rs`

/// Between two padded pings while a size is tried.
pub const SIZE_PACE: Duration = Duration::from_millis(100);

/// A size is too large when so many short pings that went beside large ones were answered, and no large one. Of a path
/// that loses 40% each way this is untrue once in two thousand times, of one that loses 10% once in two million.
pub const SIZE_SHORT_PONGS: u32 = 8;

/// So many pongs of a peer, none of which ever said a size, and it is one that knows no padding. Also in docs/wire.md
/// 8.2.
pub const SIZE_MUTE_PONGS: u32 = 32;

/// Between checks of the proven size while a flow uses the link: so long a path that became narrower goes unnoticed.
pub const SIZE_CHECK_ACTIVE: Duration = Duration::from_secs(2);

/// The same while idle.
pub const SIZE_CHECK_IDLE: Duration = Duration::from_secs(60);

/// How long a size that was too large is not tried again.
pub const SIZE_AGAIN: Duration = Duration::from_secs(60);

// Dialling: `link/dialer.rs`

/// Between two addresses of one neighbour.
pub const DIAL_STAGGER: Duration = Duration::from_millis(250);

/// How long an attempt may take. QUIC repeats a lost first packet after 0.3, 0.9, 2.1 and 4.5 s: beyond the third it is
/// quicker to dial anew.
pub const DIAL_WAIT: Duration = Duration::from_secs(3);

/// Before the first retry.
pub const REDIAL_MIN: Duration = Duration::from_millis(250);

/// Between retries at most. A link that lived so long, or that the peer did not close, makes the next pause short
/// again.
pub const REDIAL_MAX: Duration = Duration::from_secs(5);

/// The most neighbours that can be configured; more are ignored.
pub const NEIGHBOURS_MAX: usize = 64;

/// The most addresses of one neighbour that are tried.
pub const ADDRESSES_MAX: usize = 16;

// Routes: `route.rs`

/// The cost of any link, until it is measured: the 3 ms a hop costs at least.
pub const LINK_COST: Distance = Distance::from_tenth_millis(30);

/// What the link from a deputy to its hub costs.
pub const LINK_COST_NEAR: Distance = Distance::from_tenth_millis(15);

/// What a deputy's own link out of the site costs: more than the way by the hub.
pub const LINK_COST_STANDBY: Distance = Distance::from_tenth_millis(60);

/// The most origins routes are kept to. News of one more is ignored.
pub const ORIGINS_MAX: usize = 4_096;

/// The most origins that those bring who open links from one address. News of one more is ignored.
pub const ORIGINS_PER_ADDRESS_MAX: usize = ORIGINS_MAX / 2;

/// The most origins that one call forgets a lost link for; the rest follows after [`PART_PAUSE`].
pub const ORIGINS_PER_CALL_MAX: usize = 128;

/// The most routes that are told in one call; the rest follows after [`PART_PAUSE`].
pub const NEWS_PER_CALL_MAX: usize = 1_024;

/// Between two parts of what one input began: pings and whatever else came meanwhile go in between.
pub const PART_PAUSE: Duration = Duration::from_micros(50);

/// The most updates to one neighbour that are under way. The rest waits where it is kept, until they are written.
pub const UPDATES_UNDER_WAY_MAX: usize = 512;

/// So many updates one neighbour is told at once: twice what there can be.
pub const UPDATES_BURST: u32 = 8_192;

/// And so many in a second besides. What changes more often is told as it is then: a way that flaps for long is told
/// less often than it flaps.
pub const UPDATES_PER_SECOND: u32 = 2_000;

/// How often an origin raises its sequence: heals what an unlucky order of events left infeasible.
pub const SEQUENCE_INTERVAL: Duration = Duration::from_secs(10);

/// Before a sequence request is repeated the first time; doubled each time.
pub const SEQUENCE_RETRY: Duration = Duration::from_millis(200);

/// How often one is sent before only the origin's own interval is waited for.
pub const SEQUENCE_TRIES: u32 = 4;

/// How long an origin that nobody tells of is remembered: its feasibility must outlive all news of it.
pub const ORIGIN_KEPT: Duration = Duration::from_secs(180);

// Catalogue: `flow/catalogue.rs`

/// The most streams known at a time. One more is not taken.
pub const STREAMS_MAX: usize = 8_192;

/// The most streams of one origin. One more is not taken.
pub const STREAMS_PER_ORIGIN_MAX: usize = 1_024;

/// The most streams that those bring who open links from one address. One more is not taken.
pub const STREAMS_PER_ADDRESS_MAX: usize = STREAMS_MAX / 2;

/// Between two words to the user that streams are not taken, or that one of this node's is not taken elsewhere.
pub const FULL_WARNING: Duration = Duration::from_secs(60);

/// So many announce refusals are said or passed on at once; beyond it they are not said.
pub const REFUSALS_BURST: u32 = 64;

/// And so many in a second besides.
pub const REFUSALS_PER_SECOND: u32 = 4;

/// The most bytes of announces and withdraws to one neighbour that are under way, but for one message. The rest waits
/// in the catalogue, until they are written.
pub const TELLING_BYTES_MAX: usize = 64 << 10;

/// So many announces and withdraws one neighbour is told at once: twice what there can be.
pub const TELLING_BURST: u32 = 16_384;

/// And so many in a second besides. A stream that is announced anew more often is told as it is then.
pub const TELLING_PER_SECOND: u32 = 200;

/// The most withdraws that are remembered; the oldest goes first.
pub const WITHDRAWN_MAX: usize = 8_192;

/// How long a withdraw is remembered: longer than anybody remembers a stream that cannot be reached.
pub const WITHDRAWN_KEPT: Duration = Duration::from_secs(1_200);

/// How long a stream is remembered whose origin cannot be reached. Also in docs/wire.md 6.2.
pub const UNREACHABLE_KEPT: Duration = Duration::from_secs(600);

// Flows: `flow/carried.rs`

/// The most flows carried at a time. A request for one more is refused as full.
pub const CARRIED_MAX: usize = 4_096;

/// The most flows that one call settles; the rest follows after [`PART_PAUSE`].
pub const FLOWS_PER_CALL_MAX: usize = 128;

/// The most flows that those may ask for who open links from one address. A request for one more is refused as full.
pub const FLOWS_PER_ADDRESS_MAX: usize = CARRIED_MAX / 2;

/// The most children of one flow. One more is refused as full. A child is a link: only a node that dialled neighbours
/// when it was full already gets there.
pub const CHILDREN_MAX: usize = LINKS_MAX;

/// How often a child says its request again. Also in docs/wire.md 7.3.
pub const REQUEST_AGAIN: Duration = Duration::from_secs(3);

/// How long a request lasts that is not said again. Also in docs/wire.md 7.3.
pub const REQUEST_EXPIRY: Duration = Duration::from_secs(10);

/// Within this time a request is accepted or refused; and so long children stay whose flow does not come any more. Also
/// in docs/wire.md 7.3.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// How long an answer is waited for. Longer than the deadline and the way of the refusal.
pub const ANSWER_WAIT: Duration = Duration::from_secs(3);

/// How long a flow is kept after its last local consumer left: players reconnect and people switch back.
pub const LINGER: Duration = Duration::from_secs(1);

/// How long a withdrawn flow is kept at least: its last packets and its END are still on their way, or must be
/// repaired. A flow whose budget is longer than half of it is kept for its budget and half of this.
pub const ENDING: Duration = Duration::from_secs(2);

/// After this time without a packet from a neighbour that accepted its flow is stalled: consumers are told, and another
/// neighbour is asked besides.
pub const STALLED_AFTER: Duration = Duration::from_secs(3);

/// How long another neighbour is preferred to one that refused a flow, did not answer, or delivered nothing.
pub const LINK_AVOIDED: Duration = Duration::from_secs(10);

/// How long a way that vanished while it was the selected one must be there again before a flow that comes moves to it:
/// a way that flaps moves nothing.
pub const WAY_STEADY: Duration = Duration::from_secs(3);

/// The most ways that are remembered for having vanished.
pub const WAYS_VANISHED_MAX: usize = 4_096;

/// The pause after a refusal.
pub const REQUEST_PAUSE: Duration = Duration::from_millis(500);

// Peaks: `flow/peak.rs`

/// How long after its first second a flow is measured before its peak replaces the default.
pub const PEAK_SETTLES: Duration = Duration::from_secs(2);

/// How long a peak is kept though less than half of it is sent.
pub const PEAK_KEPT: Duration = Duration::from_secs(60);

/// Between two words to the user that a stream sends more than its publisher declared.
pub const PEAK_WARNING: Duration = Duration::from_secs(60);

// Breaker: `flow/breaker.rs`

/// How many TCP connections the pressure of a flow may equal on a path whose round trip has grown (RFC 8083 section
/// 4.3).
pub const BREAKER_TCP: u64 = 10;

/// The same on a path that loses without a queue: 8 Mb/s at 10% loss and 40 ms equal 10, with what repair adds.
pub const BREAKER_TCP_STEADY: u64 = 20;

/// So many windows of loss in a row are too hard before the breaker opens: three intervals of reports, as RFC 8083
/// asks.
pub const BREAKER_WINDOWS: u32 = 3;

/// How long nothing more is admitted over a link whose breaker opened; twice as long each time.
pub const BREAKER_PAUSE_MIN: Duration = Duration::from_secs(10);

/// The longest such pause.
pub const BREAKER_PAUSE_MAX: Duration = Duration::from_secs(300);

/// Between two flows that are admitted after it: as long as it takes the breaker to open again.
pub const BREAKER_STEP: Duration = Duration::from_secs(8);

/// So long after a pause the breaker has forgotten it.
pub const BREAKER_CALM: Duration = Duration::from_secs(600);

// Keys: `flow/keys.rs`

/// The most answers that are waited for on behalf of others. One more request is refused as full.
pub const KEYS_PENDING_MAX: usize = 4_096;

/// The most of them that those ask who open links from one address. One more is refused as full.
pub const KEYS_PENDING_PER_ADDRESS_MAX: usize = KEYS_PENDING_MAX / 2;

/// So many key requests those may send at once who open links from one address; one more is refused as full, and asks
/// again.
pub const KEY_REQUESTS_BURST: u32 = 4_096;

/// And so many in a second besides: an answer costs its origin a seal and a signature.
pub const KEY_REQUESTS_PER_SECOND: u32 = 200;

/// So many addresses are remembered for their key requests before those that sent few are forgotten.
pub const KEY_REQUESTERS_MAX: usize = 2 * LINKS_IN_ALL_MAX;

/// The most neighbours that wait for one answer; one more asks again by itself.
pub const KEY_ASKERS_MAX: usize = 8;

/// The most grants of one instance that its origin keeps, so that asking again costs it nothing.
pub const KEY_GRANTS_KEPT_MAX: usize = 4_096;

/// How long an answer on behalf of another is waited for. Also in docs/wire.md 7.3.
pub const KEY_PENDING: Duration = Duration::from_secs(5);

/// Before a consumer repeats its request the first time; doubled each time.
pub const KEY_RETRY_MIN: Duration = Duration::from_millis(500);

/// Between repeats at most.
pub const KEY_RETRY_MAX: Duration = Duration::from_secs(5);

// Subscriptions: `flow/subscriptions.rs`

/// The most local subscriptions. One more is told `Unknown` and never served. The node, whose subscribers share one
/// if they want the same, refuses whoever wants something else beyond it.
pub const SUBSCRIPTIONS_MAX: usize = 1_024;

// Rows: `view.rs`

/// The most rows that are made at once for whoever looks at a node, before its task does something else: the widest, of
/// flows that go out over all links, take less than a millisecond (`bench/RESULTS.md`). More come in further slices.
pub const ROWS_AT_ONCE: usize = 16;

// Sites: `site.rs`, `site/roster.rs`, `site/election.rs`

/// The most members of a site beside this node. One more is not heard.
pub const MEMBERS_MAX: usize = 1_024;

/// The most interfaces on which a node takes part in its site; those with the lowest numbers.
pub const INTERFACES_MAX: usize = 8;

/// A site datagram that is so many behind its sender's highest is not used. Also in docs/wire.md 9.1.
pub const SITE_REPLAY_WINDOW: u64 = 64;

/// So many signatures of one sender are checked at once, and of all senders that were never proven together.
pub const SIGNATURES_BURST_MAX: u32 = 16;

/// Between two signatures of one sender that are checked after those.
pub const SIGNATURE_EVERY: Duration = Duration::from_millis(50);

/// Between beacons of a hub while flows use its links.
pub const BEACON_ACTIVE: Duration = Duration::from_millis(100);

/// Between beacons of a hub otherwise.
pub const BEACON_IDLE: Duration = Duration::from_secs(1);

/// Between beacons of a member whose roster is not its hub's, or whose site has no hub; longer in a large site, so that
/// all members together send no more than one each [`BEACON_SHARE`].
pub const BEACON_MEMBER: Duration = Duration::from_secs(5);

/// Between the beacons of all members together, at least.
pub const BEACON_SHARE: Duration = Duration::from_millis(100);

/// So much more rarely a member speaks whose roster is its hub's.
pub const BEACON_MATCHED: u32 = 4;

/// The longest interval that a beacon can say.
pub const BEACON_INTERVAL_MAX: Duration = Duration::from_millis(65_535);

/// Between the first three beacons of a node. The first follows at once, or one tenth of it later.
pub const BEACON_FIRST: Duration = Duration::from_millis(150);

/// Between a beacon and one that answers a newcomer, at least.
pub const BEACON_PAUSE: Duration = Duration::from_millis(30);

/// How long a newcomer waits for a hub's beacon before it claims; longer with a lower priority, up to twice as long.
pub const LISTEN: Duration = Duration::from_millis(400);

/// How long a member stays known after its last beacon, at least; else four times what it promised.
pub const MEMBER_KEPT: Duration = Duration::from_secs(20);

/// How long a member stays known whose link is gone and that is not heard.
pub const MEMBER_SUSPECT: Duration = Duration::from_secs(8);

/// After so many intervals without a beacon a hub is gone, for a deputy. Others wait up to one more.
pub const HUB_SILENT_INTERVALS: u32 = 3;

/// What is taken for the interval of a hub that claimed and did not send a beacon yet.
pub const CLAIM_INTERVAL: Duration = Duration::from_millis(150);

/// When a claim is sent again, after the first.
pub const CLAIM_AGAIN: [Duration; 2] = [Duration::from_millis(30), Duration::from_millis(90)];

/// How long a claimer waits for objections. Longer than [`CLAIM_AGAIN`] and [`OBJECTION_DELAY`].
pub const CLAIM_WAIT: Duration = Duration::from_millis(130);

/// A member that still hears the hub objects within this time, unless the hub itself has answered.
pub const OBJECTION_DELAY: Duration = Duration::from_millis(30);

/// How long a claimer that was objected to waits before it may claim again.
pub const CLAIM_PAUSE: Duration = Duration::from_secs(1);

/// Two claims that were objected to within this time: the claimer does not hear what others hear.
pub const DUELS_WITHIN: Duration = Duration::from_secs(10);

/// How long such a node does not claim; twice as long each time.
pub const DEAF_MIN: Duration = Duration::from_secs(60);

/// The longest such time.
pub const DEAF_MAX: Duration = Duration::from_secs(960);

/// So often in that time a hub answers the claims of a better node before it gives way: three times each is one claim.
pub const HUB_ANSWERS: u32 = 6;

/// A claim whose epoch is so far ahead of the hub's is not believed.
pub const EPOCH_AHEAD_MAX: u32 = 65_536;

/// A node whose timer fires this late stood still, and listens before it goes on as hub.
pub const SITE_PAUSED: Duration = Duration::from_millis(300);

/// For so long a node must be better than the hub before the hub hands over.
pub const CHALLENGE: Duration = Duration::from_secs(30);

/// By so many steps.
pub const CHALLENGE_STEPS: u8 = 2;

/// How long a hub that hands over waits for the claim of the next.
pub const HANDOVER_WAIT: Duration = Duration::from_millis(500);

/// The most addresses that a hub dials because members know them.
pub const LENT_MAX: usize = 32;

/// So many links out of the site a deputy has ready.
pub const STANDBY_MAX: usize = 2;

/// So long after it left such a link to the hub a deputy opens it again, to have it ready: by then all that is behind
/// it has moved to the way by the hub.
pub const STANDBY_AFTER: Duration = Duration::from_secs(2);

/// So long after its hub has lost a link that a member left to it the member dials by itself.
pub const REST_GRACE: Duration = Duration::from_secs(5);

/// Members whose streams are wanted, and to which a node keeps a link for that; streams of more come by the hub.
pub const SOURCES_MAX: usize = 16;

/// How long such a link is kept after the last stream was wanted.
pub const SOURCE_KEPT: Duration = Duration::from_secs(10);

/// Where nobody may be hub, a node keeps links to so many members at most.
pub const MESH_MAX: usize = 8;

// Channels: `channels.rs`

/// How long a lane sends a flow to a channel unless it is told again: a node that stood still does not go on where
/// another speaks by now.
pub const CHANNEL_LIFETIME: Duration = Duration::from_millis(500);

/// How often it is told again.
pub const CHANNEL_RENEWAL: Duration = Duration::from_millis(125);

/// After a flow went to a channel for so long and nobody got it that way, the channel is proven anew.
pub const CHANNEL_UNHEARD: Duration = Duration::from_secs(5);

/// Interfaces and IP versions on which one flow has channels: one more stays unicast.
pub const CHANNELS_OF_FLOW_MAX: usize = 4;

/// Parents whose offers of one flow are remembered; what one more offers is not heard.
pub const OFFERS_OF_FLOW_MAX: usize = 8;

/// Between an offer and the first train of probes, and from that to the next: members join meanwhile, and the switch
/// hears of it.
pub const PROBE_FIRST: Duration = Duration::from_millis(150);

/// Between trains of probes after many that too few have heard; twice as long each time until then.
pub const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(10);

/// Probes of one train. Half of them is enough. Also in docs/wire.md 9.4.
pub const PROBES_PER_TRAIN: u16 = 3;

/// A receiver of a channel is judged by what it heard in so long.
pub const CHANNEL_JUDGED: Duration = Duration::from_secs(1);

/// And by so many packets at least.
pub const CHANNEL_JUDGED_PACKETS: u64 = 40;

/// A receiver that loses more than one in so many packets has a copy of its own. Also in docs/wire.md 7.3.
pub const CHANNEL_LOSS_PART: u64 = 20;

/// How long a receiver that went back to unicast stays there; twice as long each time.
pub const CHANNEL_AGAIN: Duration = Duration::from_secs(2);

/// The longest such time.
pub const CHANNEL_AGAIN_MAX: Duration = Duration::from_secs(300);

/// After so long by multicast what was before is forgotten.
pub const CHANNEL_STEADY: Duration = Duration::from_secs(60);
// Surveys: `survey.rs`

/// How long the answer to a question is waited for. Also in docs/wire.md 7.1.
pub const SURVEY_WAIT: Duration = Duration::from_secs(3);

/// So many questions of one link are taken in a second, and so many at once; those beyond are dropped.
pub const QUESTIONS_PER_SECOND: u32 = 16;

/// See [`QUESTIONS_PER_SECOND`].
pub const QUESTIONS_BURST: u32 = 64;

/// The same for all links together.
pub const QUESTIONS_ALL_PER_SECOND: u32 = 64;

/// See [`QUESTIONS_ALL_PER_SECOND`].
pub const QUESTIONS_ALL_BURST: u32 = 256;

/// The most questions that wait for their answers; one more is dropped, and one of this node's own is not asked.
pub const QUESTIONS_MAX: usize = 512;
