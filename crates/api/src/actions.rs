//! What the API does: ends a session, has the node leave.
//!
//! Not who may, which is `access`. Called by the router. Invariant: an action answers when it has begun, and its effect
//! is seen in the tables.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;

use crate::Shared;
use crate::problem::Problem;

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
