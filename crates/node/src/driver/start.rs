//! The start of a node: takes all that it needs, or nothing.
//!
//! The order is that of what can fail: words, directory, port, threads; then nothing can. Not the life that
//! follows (`task`). Called by `node`. Invariant: whatever a failed start had taken is given back.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use levada_core::limits::LINKS_IN_ALL_MAX;
use levada_core::site::Willing;
use levada_core::{Control, Settings};
use levada_lane::LaneSettings;
use levada_wire::control::link::NODE_NAME_BYTES_MAX;
use levada_wire::lane;
use levada_wire::{Bitrate, LinkIndex, NetworkId};
use tokio::sync::{Semaphore, broadcast, mpsc, watch};

use super::interests::Interests;
use super::machine::CacheBytes;
use super::names::Names;
use super::pump::Pump;
use super::rarely::Rarely;
use super::task::{DRIVER_GONE, Driver, Inbox, Resolving};
use super::{
    About, Answers, EVENTS_MAX, Handle, QUIC_EVENTS_MAX, REQUESTS_MAX, SLOTS_MAX, Shared, datapath,
};
use crate::builder::{Builder, Relay, StartError, StateChoice};
use crate::events::Event;
use crate::fanout::{Fanout, FrameRoom};
use crate::node::Failed;
use crate::quic::QuicEvent;
use crate::quic::connection::Surroundings;
use crate::quic::endpoint::{Endpoint, Limits};
use crate::quic::tls::Credentials;
use crate::resolve::{self, Address, Resolved};
use crate::site::{self, SitePorts};
use crate::state::{self, StateDir};
use crate::survey::Questions;

/// Starts a node.
pub(crate) async fn start(builder: Builder) -> Result<Handle, StartError> {
    let neighbours = builder.neighbours()?;
    let name = node_name(builder.name.clone())?;
    builder.site.as_ref().map_or(Ok(()), site::check)?;
    let state = match &builder.state {
        StateChoice::Default => StateDir::open(&state::default_dir())?,
        StateChoice::At(dir) => StateDir::open(dir)?,
        StateChoice::Temporary => StateDir::temporary()?,
    };
    let cache = CacheBytes::of_or_here(builder.cache_bytes);
    let fanout = Arc::new(fanout(cache));
    let parts = datapath::start(
        builder.listen_or_default(),
        builder.lanes_or_default()?,
        lane_settings(&builder, cache)?,
        Arc::clone(&fanout),
    )?;
    let quic = endpoint(&builder, &state, parts.socket)?;
    let about = About {
        id: state.identity().id(),
        name,
        local_addr: parts.local_addr,
        state_dir: state.path().to_owned(),
        relay: builder.relay.is_willing(),
        client: builder.client,
    };
    let clock = parts.datapath.clock();
    let pump = Pump::new(control(&about, builder.uplink, &state)?, clock);
    let (site_ports, site_inputs) = SitePorts::new();
    let next_link = LinkIndex(u32::from_be_bytes(random()?));
    let (handle, ends) = lines(about, parts.datapath.clone(), (parts.events, site_inputs));
    let mut driver = Driver {
        pump,
        datapath: parts.datapath,
        asks_rates: builder.interface_rate.is_none(),
        fanout,
        streams: Arc::default(),
        quic,
        around: Surroundings::new(ends.quic_events, builder.tap.clone()),
        events: ends.events,
        inbox: ends.inbox,
        site: site_ports,
        links: BTreeMap::new(),
        next_link,
        dials: BTreeMap::new(),
        publications: BTreeMap::new(),
        interests: Interests::default(),
        resolving: resolving(builder.client, ends.results),
        again: VecDeque::new(),
        dial_failures: Rarely::default(),
        questions: Questions::new(handle.downgrade()),
        leaving: None,
        state,
        stopped: ends.stopped,
        helpers: Vec::new(),
    };
    start_admin(&builder, &handle, &mut driver)?;
    start_site(&builder, &mut driver, handle.about().local_addr);
    start_helpers(&builder, &mut driver, neighbours);
    let (id, port) = (handle.about().id.short(), handle.about().local_addr.port());
    tracing::info!(id, port, name = handle.about().name, "the node runs");
    tokio::spawn(driver.run());
    Ok(handle)
}

/// QUIC on the socket that the lanes share with it.
fn endpoint(
    builder: &Builder,
    state: &StateDir,
    socket: Arc<dyn quinn::AsyncUdpSocket>,
) -> Result<Endpoint, StartError> {
    let (credentials, accepts) = (Credentials::new(state.identity()), !builder.client);
    let endpoint = Endpoint::new(socket, credentials, accepts, Limits::default());
    endpoint.map_err(|source| system("the local address", source))
}

/// Subscribers have as much room as caches.
fn fanout(cache: CacheBytes) -> Fanout {
    let room = FrameRoom::new(cache.of_all);
    Fanout::new(tokio::runtime::Handle::current(), room)
}

/// A lane has room for every link that the core may have.
fn lane_settings(builder: &Builder, cache: CacheBytes) -> Result<LaneSettings, StartError> {
    let default = LaneSettings::default();
    Ok(LaneSettings {
        seed: u64::from_be_bytes(random()?),
        links_max: LINKS_IN_ALL_MAX,
        cache_bytes_max: cache.of_all,
        flow_cache_bytes_max: cache.of_one,
        interface_rate: builder.interface_rate.unwrap_or(default.interface_rate),
        ..default
    })
}

fn resolving(merges: bool, results: mpsc::Sender<Resolved>) -> Resolving {
    Resolving {
        merges,
        merged: BTreeMap::new(),
        wanted: Vec::new(),
        unresolved: BTreeMap::new(),
        names: Names::default(),
        results,
    }
}

/// The driver's ends of the queues around it.
struct Ends {
    inbox: Inbox,
    quic_events: mpsc::Sender<QuicEvent>,
    results: mpsc::Sender<Resolved>,
    events: broadcast::Sender<Event>,
    stopped: watch::Sender<Option<Failed>>,
}

/// Makes the queues around the driver.
fn lines(
    about: About,
    datapath: datapath::Datapath,
    (heard, site): (
        mpsc::Receiver<lane::Event>,
        mpsc::Receiver<levada_core::site::Input>,
    ),
) -> (Handle, Ends) {
    let (quic_events, happened) = mpsc::channel(QUIC_EVENTS_MAX);
    let (ask, asked) = mpsc::channel(REQUESTS_MAX + SLOTS_MAX);
    let (results, resolved) = mpsc::channel(resolve::RESOLVED_MAX);
    let (events, _) = broadcast::channel(EVENTS_MAX);
    // A driver that panics says nothing more.
    let unsaid = Failed {
        reason: DRIVER_GONE,
    };
    let (stopped, is_stopped) = watch::channel(Some(unsaid));
    let shared = Shared {
        about,
        datapath,
        asked: ask,
        request_places: Arc::new(Semaphore::new(REQUESTS_MAX)),
        slot_places: Arc::new(Semaphore::new(SLOTS_MAX)),
        events: events.downgrade(),
        next_slot: AtomicU64::new(0),
        stopped: is_stopped,
        answers: Answers::default(),
    };
    let inbox = Inbox {
        quic_events: happened,
        datapath: heard,
        asked,
        resolved,
        site,
        is_asked: true,
    };
    let ends = Ends {
        inbox,
        quic_events,
        results,
        events,
        stopped,
    };
    let shared = Arc::new(shared);
    (Handle { shared }, ends)
}

fn control(
    about: &About,
    uplink: Option<Bitrate>,
    state: &StateDir,
) -> Result<Control, StartError> {
    Ok(Control::new(Settings {
        identity: state.identity().clone(),
        network: NetworkId::OPEN,
        name: about.name.clone(),
        relay: about.relay,
        accept: !about.client,
        uplink,
        seed: random()?,
    }))
}

/// Has the node take part in its site, if it is to.
fn start_site(builder: &Builder, driver: &mut Driver, listen: SocketAddr) {
    let options = builder.site.as_ref().filter(|_| !builder.client);
    if let Some(options) = options {
        let wall = driver.pump.wall();
        let settings = site::settings(options, listen, willing(builder), wall);
        driver
            .pump
            .handle(levada_core::site::Input::Begin(settings));
        driver.helpers.push(driver.site.watch(listen));
    }
}

/// How willing the node is to be hub of its site.
const fn willing(builder: &Builder) -> Willing {
    match builder.relay {
        Relay::Always => Willing::Always,
        Relay::Auto => Willing::Auto,
        Relay::Never => Willing::Never,
    }
}

/// Makes the local socket and the task behind it.
#[cfg(unix)]
fn start_admin(builder: &Builder, handle: &Handle, driver: &mut Driver) -> Result<(), StartError> {
    if !builder.admin {
        return Ok(());
    }
    let path = state::socket_path(driver.state.path());
    let listener = crate::admin::Listener::bind(&path);
    let listener = listener.map_err(|source| StartError::Admin { path, source })?;
    let task = tokio::spawn(crate::admin::serve(listener, handle.downgrade()));
    driver.helpers.push(task);
    Ok(())
}

/// There is no local socket on this platform: a node is used through the library only.
#[cfg(not(unix))]
fn start_admin(_: &Builder, _: &Handle, _: &mut Driver) -> Result<(), StartError> {
    Ok(())
}

/// Makes the tasks that accept connections and look neighbours up.
fn start_helpers(builder: &Builder, driver: &mut Driver, neighbours: Vec<Address>) {
    if !builder.client {
        let accept = driver
            .quic
            .clone()
            .accept(driver.around.quic_events.clone());
        driver.helpers.push(tokio::spawn(accept));
    }
    let mut names = Vec::new();
    for address in neighbours {
        match address.literal() {
            Some(neighbour) => driver.add_neighbour(neighbour),
            None => names.push(address),
        }
    }
    driver.look_up(names);
}

/// The given name, or the host's.
fn node_name(given: Option<String>) -> Result<String, StartError> {
    let Some(name) = given else {
        return Ok(host_name());
    };
    if name.len() > NODE_NAME_BYTES_MAX {
        return Err(StartError::Name {
            bytes: name.len(),
            max: NODE_NAME_BYTES_MAX,
        });
    }
    Ok(name)
}

/// The host's name where it is easily had, cut to what a node's name may be.
fn host_name() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let variable = || std::env::var("COMPUTERNAME").or_else(|_| std::env::var("HOSTNAME"));
    let name = kernel.or_else(|| variable().ok()).unwrap_or_default();
    let name = name.trim();
    if name.is_empty() || name.len() > NODE_NAME_BYTES_MAX {
        return "levada".to_owned();
    }
    name.to_owned()
}

/// Random bytes of the system's.
pub(super) fn random<const N: usize>() -> Result<[u8; N], StartError> {
    let mut bytes = [0; N];
    let filled = getrandom::fill(&mut bytes);
    filled.map_err(|error| system("random bytes", io::Error::other(error.to_string())))?;
    Ok(bytes)
}

fn system(what: &'static str, source: io::Error) -> StartError {
    StartError::System { what, source }
}
