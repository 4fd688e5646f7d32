//! Streams that are fetched from cameras and other RTSP servers: on demand or always, in the node's configuration or by
//! a player's URL.
//!
//! | module | what it is |
//! |---|---|
//! | `address` | where a stream is, and what it is called in the network |
//! | `dialogue`, `challenge` | the protocol, as a machine without I/O |
//! | `connection` | one connection: packets become frames |
//! | `keep` | when to connect, and which node does |
//!
//! A stream that is pulled is a stream like any other: published under its name, played at every node by any gateway.
//! Not the answer to players, which is `server`'s. Called by `server` and by `levada-cli`. Invariant: dropping
//! [`Pulls`] ends all connections.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use levada::{Node, StreamName};
use levada_gateway::{Offers, Registry};
use tokio::sync::watch;
use tokio::task::AbortHandle;

mod address;
mod challenge;
mod connection;
mod dialogue;
mod keep;

pub use address::{Address, AddressError};
pub use dialogue::Failure;

use crate::header::transport::Lower;
use keep::Keeper;

/// Streams that players may ask for at a time. Those of a configuration are beside them.
pub const ASKED_MAX: usize = 256;

/// How a stream is pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Spec {
    /// From where.
    pub address: Address,
    /// By TCP or UDP; by TCP, and by UDP where that is refused, if it is not said.
    pub transport: Option<Lower>,
    /// Whether to be connected also while nobody wants it.
    pub always: bool,
}

impl Spec {
    /// On demand, by what works.
    #[must_use]
    pub const fn new(address: Address) -> Self {
        Self {
            address,
            transport: None,
            always: false,
        }
    }

    /// Sets by what packets come.
    #[must_use]
    pub const fn with_transport(mut self, transport: Lower) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Has it connected always.
    #[must_use]
    pub const fn always(mut self) -> Self {
        self.always = true;
        self
    }
}

/// All streams that a node pulls. Clones are the same.
#[derive(Clone, Debug)]
pub struct Pulls {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    node: Node,
    offers: Offers,
    registry: Registry,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    configured: BTreeMap<StreamName, (Spec, Kept)>,
    asked: BTreeMap<StreamName, (Arc<watch::Sender<usize>>, Kept)>,
    /// For whom other than players of this very machine streams are pulled: from servers like these.
    allowed: Vec<String>,
}

/// A stream that is kept; no more once this is dropped.
#[derive(Debug)]
struct Kept {
    task: AbortHandle,
    trouble: Arc<Mutex<Option<Failure>>>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A player's wish for a stream: it is pulled, by some node, for as long as this is held.
#[derive(Debug)]
pub struct Wish {
    /// How many there are of the stream.
    count: Arc<watch::Sender<usize>>,
}

impl Wish {
    fn new(count: &Arc<watch::Sender<usize>>) -> Self {
        count.send_modify(|count| *count += 1);
        let count = Arc::clone(count);
        Self { count }
    }
}

impl Drop for Wish {
    fn drop(&mut self) {
        self.count.send_modify(|count| *count -= 1);
    }
}

/// Why a stream is not pulled for a player.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// Players of other machines may not have this one connect anywhere.
    #[error(
        "this node connects to `{server}` only for players on its own machine: \
         write `pull_allow = [\"{server}\"]` into its configuration to let others ask for it"
    )]
    NotAllowed {
        /// The server.
        server: String,
    },
    /// There are as many as there may be.
    #[error("{max} streams are pulled here for players, which is all there may be")]
    Full {
        /// The limit.
        max: usize,
    },
}

impl Pulls {
    /// Pulls nothing yet. `registry` gets a record of each connection. Must be called on a tokio runtime.
    #[must_use]
    pub fn new(node: Node, registry: Registry) -> Self {
        let offers = Offers::new(&node);
        let shared = Shared {
            node,
            offers,
            registry,
            table: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.shared
            .table
            .lock()
            .expect("no code that can panic runs under this lock")
    }

    /// Pulls these from now on, by name, beside what players ask for. Those that are as before go on untouched. Returns
    /// how many are others, or gone.
    pub fn set(&self, specs: BTreeMap<StreamName, Spec>) -> usize {
        let mut table = self.table();
        let before = table.configured.len();
        table
            .configured
            .retain(|name, (spec, _)| specs.get(name) == Some(spec));
        let changed = before - table.configured.len();
        for (name, spec) in specs {
            table.configured.entry(name).or_insert_with_key(|name| {
                let keeper = self.keeper(name, spec.clone());
                let kept = keep(Arc::clone(&keeper.trouble), keeper.configured());
                (spec, kept)
            });
        }
        changed
    }

    /// Lets players of other machines ask for streams of servers like these ([`Address::is_allowed_by`]).
    pub fn allow(&self, servers: Vec<String>) {
        self.table().allowed = servers;
    }

    /// What a stream at that address is called.
    #[must_use]
    pub fn name_of(&self, address: &Address) -> Option<StreamName> {
        address.stream_name(&self.shared.node.id().short())
    }

    /// Has a stream pulled for a player, by this node or another. `is_here`: the player is on this machine.
    ///
    /// # Errors
    ///
    /// When the player may not ask for that, or a limit is reached.
    pub fn ask_for(
        &self,
        name: &StreamName,
        address: &Address,
        is_here: bool,
    ) -> Result<Wish, AskError> {
        let mut table = self.table();
        let is_allowed = |pattern: &String| address.is_allowed_by(pattern);
        if !is_here && !table.allowed.iter().any(is_allowed) {
            let server = address.server();
            return Err(AskError::NotAllowed { server });
        }
        table.asked.retain(|_, (_, kept)| !kept.task.is_finished());
        if let Some((count, _)) = table.asked.get(name) {
            tracing::info!(stream = %name, "one more player shares what is pulled, and its position");
            return Ok(Wish::new(count));
        }
        if table.asked.len() >= ASKED_MAX {
            return Err(AskError::Full { max: ASKED_MAX });
        }
        let count = Arc::new(watch::Sender::new(0));
        let interest = Wish::new(&count);
        let keeper = self.keeper(name, Spec::new(address.clone()));
        let trouble = Arc::clone(&keeper.trouble);
        let task = keeper.asked_for(count.subscribe());
        table
            .asked
            .insert(name.clone(), (count, keep(trouble, task)));
        Ok(interest)
    }

    /// Why a stream that this node pulls does not come, if it does not.
    #[must_use]
    pub fn trouble(&self, name: &StreamName) -> Option<Failure> {
        let table = self.table();
        let asked = table.asked.get(name).map(|(_, kept)| kept);
        let kept = asked.or_else(|| table.configured.get(name).map(|(_, kept)| kept))?;
        let trouble = kept.trouble.lock();
        trouble
            .expect("no code that can panic runs under this lock")
            .clone()
    }

    fn keeper(&self, name: &StreamName, spec: Spec) -> Keeper {
        Keeper {
            node: self.shared.node.clone(),
            offers: self.shared.offers.clone(),
            registry: self.shared.registry.clone(),
            name: name.clone(),
            spec,
            trouble: Arc::default(),
        }
    }
}

fn keep(
    trouble: Arc<Mutex<Option<Failure>>>,
    task: impl Future<Output = ()> + Send + 'static,
) -> Kept {
    Kept {
        task: tokio::spawn(task).abort_handle(),
        trouble,
    }
}
