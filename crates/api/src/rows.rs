//! Tables as JSON: the rows that `levada TABLE --json` prints, and what says whether the node is well.
//!
//! Not rows that change, which `watch` sends. Called by the router. Invariant: every table has its name from [`Table`]
//! alone, so a path, `watch` and the index know the same ones.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use levada::view::{
    CounterRow, FlowRow, LinkRow, MapRow, MemberRow, NodeRow, RouteRow, StreamRow, VERSION,
};
use levada::{Node, Stopped, StreamName, TraceError};
use levada_gateway::Registry;
use serde::Serialize;
use serde_json::{Value, json};

use crate::Shared;
use crate::problem::Problem;
use crate::watch::LOOK_EVERY;

/// A table of the API: those of the node, and the gateways' sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    Streams,
    Nodes,
    Links,
    Flows,
    Routes,
    Counters,
    Site,
    Sessions,
    Map,
}

impl Table {
    pub(crate) const ALL: [Self; 9] = [
        Self::Streams,
        Self::Nodes,
        Self::Links,
        Self::Flows,
        Self::Routes,
        Self::Counters,
        Self::Site,
        Self::Sessions,
        Self::Map,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Streams => "streams",
            Self::Nodes => "nodes",
            Self::Links => "links",
            Self::Flows => "flows",
            Self::Routes => "routes",
            Self::Counters => "counters",
            Self::Site => "site",
            Self::Sessions => "sessions",
            Self::Map => "map",
        }
    }

    /// How often it is looked at while it is watched: other nodes are asked for the map.
    pub(crate) const fn look_every(self) -> Duration {
        match self {
            Self::Map => Duration::from_secs(3),
            _ => LOOK_EVERY,
        }
    }

    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// The names of all, for people.
    pub(crate) fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// What tells a row from the others of its table.
    pub(crate) fn key(self, row: &Value) -> String {
        let fields: &[&str] = match self {
            Self::Streams => &["name", "origin", "instance"],
            Self::Nodes => &["id", "address"],
            Self::Site => &["node"],
            Self::Links => &["link", "remote"],
            Self::Flows => &["flow"],
            Self::Routes => &["origin"],
            Self::Counters => &["name", "reason"],
            Self::Sessions | Self::Map => &["id"],
        };
        let parts = fields.iter().map(|field| match &row[field] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        });
        parts.collect::<Vec<_>>().join(" ")
    }

    /// Its rows at this moment.
    pub(crate) async fn rows(
        self,
        node: &Node,
        registry: &Registry,
    ) -> Result<Vec<Value>, Stopped> {
        Ok(match self {
            Self::Streams => values(node.rows::<StreamRow>().await?),
            Self::Nodes => values(node.rows::<NodeRow>().await?),
            Self::Links => values(node.rows::<LinkRow>().await?),
            Self::Flows => values(node.rows::<FlowRow>().await?),
            Self::Routes => values(node.rows::<RouteRow>().await?),
            Self::Counters => values(node.rows::<CounterRow>().await?),
            Self::Site => values(node.rows::<MemberRow>().await?),
            Self::Sessions => values(registry.rows()),
            Self::Map => values(node.rows::<MapRow>().await?),
        })
    }
}

fn values<R: Serialize>(rows: Vec<R>) -> Vec<Value> {
    let value = |row| serde_json::to_value(row).expect("rows are written as JSON elsewhere too");
    rows.into_iter().map(value).collect()
}

#[derive(Serialize)]
struct Body {
    version: u32,
    rows: Vec<Value>,
}

pub(crate) async fn table(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let Some(table) = Table::of(&name) else {
        let detail = format!("there is no such table: there are {}", Table::names());
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    };
    answer(&shared, table).await
}

/// The table of a path that has an action, too.
pub(crate) async fn streams(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    answer(&shared, Table::Streams).await
}

/// The same.
pub(crate) async fn links(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    answer(&shared, Table::Links).await
}

async fn answer(shared: &Shared, table: Table) -> Result<Response, Problem> {
    let rows = table.rows(&shared.node, &shared.registry).await?;
    let version = VERSION;
    Ok(Json(Body { version, rows }).into_response())
}

pub(crate) async fn trace(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let name: StreamName = name.parse().map_err(|why| {
        let detail = format!("this is no name of a stream: {why}");
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })?;
    let rows = shared
        .node
        .trace(&name)
        .await
        .map_err(|error| match error {
            TraceError::NotHere { .. } => Problem::new(
                StatusCode::NOT_FOUND,
                "the stream does not flow here: play it at this node, then its way can be shown",
            ),
            _ => Stopped.into(),
        })?;
    let (version, rows) = (VERSION, values(rows));
    Ok(Json(Body { version, rows }).into_response())
}

pub(crate) async fn node(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let about = shared.node.about().await?;
    let mut body = serde_json::to_value(about).expect("it is written as JSON elsewhere too");
    body["version"] = VERSION.into();
    body["levada"] = env!("CARGO_PKG_VERSION").into();
    Ok(Json(body).into_response())
}

pub(crate) async fn index() -> Json<Value> {
    let tables = Table::ALL.map(|table| format!("/api/v1/{}", table.name()));
    Json(json!({
        "version": VERSION,
        "levada": env!("CARGO_PKG_VERSION"),
        "openapi": "/api/v1/openapi.json",
        "node": "/api/v1/node",
        "tables": tables,
        "watch": format!("/api/v1/watch?tables={}", Table::names().replace(' ', "")),
        "events": "/api/v1/events",
        "history": "/api/v1/history",
        "trace": "/api/v1/trace/NAME",
        "metrics": "/metrics",
    }))
}

/// The process serves requests.
pub(crate) async fn health() -> &'static str {
    "well\n"
}

/// The node does its work: its core answers.
pub(crate) async fn ready(State(shared): State<Arc<Shared>>) -> Result<&'static str, Problem> {
    shared.node.about().await?;
    Ok("ready\n")
}
