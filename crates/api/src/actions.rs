//! What the API does: ends a session, publishes and takes back, connects and disconnects, has the node leave.
//!
//! Not who may, which is `access`, and not how a source is opened, which is [`Publishing`]'s. Called by the router.
//! Invariant: an action answers when it has begun, and its effect is seen in the tables; what cannot be is refused in
//! words.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use levada::{Address, LinkIndex, StreamName};
use serde::Deserialize;

use crate::Shared;
use crate::problem::Problem;

/// What is not ready yet.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A stream that is to be published.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Order {
    /// Its name; of a folder, the first part of the names.
    pub name: String,
    /// The source, as `levada publish` takes it.
    pub source: String,
    /// Whether a file starts anew at its end.
    #[serde(default)]
    pub r#loop: bool,
}

/// What opens sources and publishes them: the program around the node.
pub trait Publishing: fmt::Debug + Send + Sync {
    /// Publishes a stream; or says why not, in words for people.
    fn publish(&self, order: Order) -> Pending<Result<(), String>>;

    /// Takes a stream back that was published in this way; or says why not.
    fn take_back(&self, name: StreamName) -> Pending<Result<(), String>>;
}

fn refused(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

fn body<T>(body: Result<Json<T>, JsonRejection>, example: &str) -> Result<T, Problem> {
    let body = body.map(|Json(body)| body);
    body.map_err(|_| refused(format!("the body is to be JSON like `{example}`")))
}

pub(crate) async fn publish(
    State(shared): State<Arc<Shared>>,
    order: Result<Json<Order>, JsonRejection>,
) -> Result<StatusCode, Problem> {
    let order = body(order, r#"{"name":"lobby/cam","source":"test"}"#)?;
    let publishing = publishing(&shared)?;
    publishing.publish(order).await.map_err(refused)?;
    Ok(StatusCode::CREATED)
}

pub(crate) async fn take_back(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    let name = name
        .parse()
        .map_err(|why| refused(format!("this is no name of a stream: {why}")))?;
    let publishing = publishing(&shared)?;
    publishing.take_back(name).await.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}

fn publishing(shared: &Shared) -> Result<&Arc<dyn Publishing>, Problem> {
    let detail = "this node publishes nothing for the API: it is no `levada run`";
    let found = shared.publishing.get();
    found.ok_or_else(|| Problem::new(StatusCode::NOT_IMPLEMENTED, detail))
}

/// The neighbour to keep a link to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Connect {
    address: String,
}

pub(crate) async fn connect(
    State(shared): State<Arc<Shared>>,
    wanted: Result<Json<Connect>, JsonRejection>,
) -> Result<StatusCode, Problem> {
    let wanted = body(wanted, r#"{"address":"relay.example:7800"}"#)?;
    let address: Address = wanted
        .address
        .trim()
        .parse()
        .map_err(|why: levada::AddressError| refused(why.to_string()))?;
    shared.node.join(address).await?;
    Ok(StatusCode::ACCEPTED)
}

pub(crate) async fn disconnect(
    State(shared): State<Arc<Shared>>,
    Path(link): Path<String>,
) -> Result<StatusCode, Problem> {
    let not_one = || {
        let detail = "there is no link of that number: /api/v1/links shows those that there are";
        Problem::new(StatusCode::NOT_FOUND, detail)
    };
    let link = link.parse().map_err(|_| not_one())?;
    if shared.node.part(LinkIndex(link)).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(not_one())
    }
}

pub(crate) async fn kick(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let not_one = |detail: &str| Problem::new(StatusCode::NOT_FOUND, detail);
    let id = id
        .parse()
        .map_err(|_| not_one("a session is named by its number, as /api/v1/sessions shows it"))?;
    if shared.registry.kick(id) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(not_one(
            "no session of that number goes on: /api/v1/sessions shows those that do",
        ))
    }
}

pub(crate) async fn leave(State(shared): State<Arc<Shared>>) -> StatusCode {
    let node = shared.node.clone();
    tokio::spawn(async move { node.leave().await });
    StatusCode::ACCEPTED
}
