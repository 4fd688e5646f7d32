//! The HTTP API: what a node shows and does, from the same typed rows as the command line, and the page on top of it.
//!
//! | path | what |
//! |---|---|
//! | `/ui/` | the page that shows the node ([`page`]) |
//! | `/api/v1`, `/api/v1/openapi.json` | what there is, for people and for programs |
//! | `/api/v1/node`, `/api/v1/TABLE` | the node itself; the rows of a table, as `levada TABLE --json` prints them |
//! | `/api/v1/watch?tables=A,B` | rows that change, as server-sent events ([`watch`]) |
//! | `/api/v1/events` | what happened; with `Accept: text/event-stream`, what happens ([`events`]) |
//! | `/api/v1/trace/NAME` | the way of a stream to this node, hop by hop, as `levada trace` shows it |
//! | `/api/v1/history` | rates over the last minutes and hours ([`history`]) |
//! | `POST /api/v1/streams`, `DELETE /api/v1/streams/NAME` | publishes a stream; takes it back ([`actions`]) |
//! | `POST /api/v1/links`, `DELETE /api/v1/links/LINK` | connects to a neighbour; disconnects |
//! | `DELETE /api/v1/sessions/ID`, `POST /api/v1/leave` | ends a session; has the node leave |
//! | `/metrics`, `/health`, `/ready` | for Prometheus; for whoever starts and watches programs |
//!
//! ```text
//!   Api::start(node, registry) ─▶ router() ─▶ merged into the HTTP gateway's listener
//!        │                           every request: access (this machine only, no other site's page) ─▶ handler
//!        └─ tasks: events into a bounded history, rates into rings; one task for each table that is watched
//! ```
//!
//! Not the listener, which is `levada-gateway-http`'s, and not the rows, which are `levada::view`'s. Used by
//! `levada-cli`. Invariant: whatever a client asks for, the node's own work waits for nobody, and each list, ring and
//! count of clients has a named limit.

#![forbid(unsafe_code)]

pub mod actions;
pub mod events;
pub mod history;
pub mod page;
pub mod watch;

mod access;
mod metrics;
mod openapi;
mod problem;
mod rows;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::Router;
pub use axum::http::Extensions;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post};
use levada::Node;
use levada_gateway::Registry;
use tokio::task::JoinSet;

use actions::Publishing;
use events::Log;
use history::History;
use watch::Watches;

/// How a handler learns where a client is: from what the listener puts into each request.
pub type Peer = fn(&Extensions) -> Option<SocketAddr>;

/// The API of a node. Its tasks end when it is dropped.
#[derive(Debug)]
pub struct Api {
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) node: Node,
    pub(crate) registry: Registry,
    pub(crate) log: Log,
    pub(crate) history: History,
    pub(crate) watches: Watches,
    pub(crate) peer: Peer,
    pub(crate) publishing: OnceLock<Arc<dyn Publishing>>,
}

impl Api {
    /// Begins to keep what will be asked for. Must be called on a tokio runtime.
    #[must_use]
    pub fn start(node: Node, registry: Registry, peer: Peer) -> Self {
        let shared = Arc::new(Shared {
            log: Log::default(),
            history: History::default(),
            watches: Watches::new(node.clone(), registry.clone()),
            node,
            registry,
            peer,
            publishing: OnceLock::new(),
        });
        let mut tasks = JoinSet::new();
        // From now on, whenever the task first runs.
        let events = shared.node.events();
        tasks.spawn(events::keep(Arc::clone(&shared), events));
        tasks.spawn(history::keep(Arc::clone(&shared)));
        Self {
            shared,
            _tasks: tasks,
        }
    }

    /// Lets the API publish streams, by the program around the node. The first that is given stays.
    pub fn publish_by(&self, publishing: Arc<dyn Publishing>) {
        let _ = self.shared.publishing.set(publishing);
    }

    /// Puts a note among the events, of the kind `note`: what the program around the node has to say, for people.
    pub fn note(&self, text: impl Into<String>) {
        self.shared.log.note(text.into());
    }

    /// The paths of the API.
    pub fn router(&self) -> Router {
        let api = Router::new()
            .route("/api/v1", get(rows::index))
            .route("/api/v1/openapi.json", get(openapi::serve))
            .route("/api/v1/node", get(rows::node))
            .route("/api/v1/sessions/{id}", delete(actions::kick))
            .route("/api/v1/streams", get(rows::streams).post(actions::publish))
            .route("/api/v1/streams/{*name}", delete(actions::take_back))
            .route("/api/v1/links", get(rows::links).post(actions::connect))
            .route("/api/v1/links/{link}", delete(actions::disconnect))
            .route("/api/v1/leave", post(actions::leave))
            .route("/api/v1/watch", get(watch::serve))
            .route("/api/v1/events", get(events::serve))
            .route("/api/v1/history", get(history::serve))
            .route("/api/v1/trace/{*name}", get(rows::trace))
            .route("/api/v1/{table}", get(rows::table))
            .route("/metrics", get(metrics::serve));
        let shared = &self.shared;
        let guarded = self.guarded(api);
        // Whoever starts programs asks from where it likes; these two tell nothing but that.
        let open = Router::new()
            .route("/health", get(rows::health))
            .route("/ready", get(rows::ready));
        guarded.merge(open.with_state(Arc::clone(shared)))
    }

    /// The paths of the page, which asks the API.
    pub fn page(&self) -> Router {
        let page = Router::new()
            .route("/ui", get(page::moved))
            .route("/ui/", get(page::index))
            .route("/ui/{*path}", get(page::file));
        self.guarded(page)
    }

    /// Only for who may ask.
    fn guarded(&self, router: Router<Arc<Shared>>) -> Router {
        let shared = &self.shared;
        let guard = from_fn_with_state(Arc::clone(shared), access::guard);
        router.layer(guard).with_state(Arc::clone(shared))
    }
}
