//! `/live/`: what is on, as a page and as JSON.
//!
//! Not who has it, which the views show. Called by `live`. Invariant: at most [`LISTED_MAX`] streams are listed, and
//! the list says so.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use levada::view::StreamRow;
use levada::{StreamName, TrackKind};
use levada_gateway::Role;
use serde::Serialize;

use crate::access::parameter;
use crate::assets::{self, escape};
use crate::server::Shared;
use crate::{live, target};

/// The most streams in one list.
pub(crate) const LISTED_MAX: usize = 1_000;

/// The list as JSON.
#[derive(Debug, Serialize)]
struct Listed {
    streams: Vec<Entry>,
    /// Streams that are on and not in the list.
    more: usize,
}

#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    /// The path of its page.
    page: String,
    tracks: Vec<String>,
    /// Whether this node is the origin.
    is_local: bool,
    /// How far the origin is; none while there is no way to it.
    distance_ms: Option<f64>,
}

impl Entry {
    /// `token` is what goes behind the address of a page.
    fn new(row: &StreamRow, token: &str) -> Self {
        let tracks = row
            .tracks
            .iter()
            .filter(|track| track.kind != TrackKind::Data);
        Self {
            name: row.name.to_string(),
            page: format!("{}{token}", target::page_of(&row.name)),
            tracks: tracks.map(|track| track.codec.clone()).collect(),
            is_local: row.is_local,
            distance_ms: row
                .distance_seconds
                .map(|distance| distance.0.as_secs_f64() * 1_000.0),
        }
    }

    /// A row of the page. A name is safe in a path, codecs are words of whoever published.
    fn html(&self) -> String {
        let (name, page, tracks) = (
            escape(&self.name),
            escape(&self.page),
            escape(&self.tracks.join(", ")),
        );
        let place = match (self.is_local, self.distance_ms) {
            (true, _) => "this node".to_owned(),
            (false, Some(distance)) => format!("{distance:.1} ms away"),
            (false, None) => "cannot be reached now".to_owned(),
        };
        format!(
            "<tr><td><a href=\"{page}\">{name}</a></td><td>{tracks}</td><td>{place}</td></tr>\n"
        )
    }
}

/// Answers `/live/` to that user: what it may play, if there are users. The links have the token of the query.
pub(crate) fn answer(
    shared: &Shared,
    user: Option<&str>,
    headers: &HeaderMap,
    query: Option<&str>,
) -> Response {
    let users = shared.kit.users();
    let may = |name: &StreamName| users.may(user, Role::Play, name.as_str());
    let (rows, names) = shared.catalogue.rows(LISTED_MAX, may);
    let token = live::token(query);
    if parameter(query, "json").is_some() {
        let text = serde_json::to_string(&listed(&rows, names, &token));
        let mut response = text
            .expect("names, words and numbers are JSON")
            .into_response();
        let out = response.headers_mut();
        out.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        out.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        return response;
    }
    assets::list(&html(&listed(&rows, names, &token)), headers)
}

fn listed(rows: &[Arc<StreamRow>], names: usize, token: &str) -> Listed {
    Listed {
        streams: rows.iter().map(|row| Entry::new(row, token)).collect(),
        more: names.saturating_sub(rows.len()),
    }
}

fn html(listed: &Listed) -> String {
    let mut out: String = listed.streams.iter().map(Entry::html).collect();
    if listed.more > 0 {
        let _ = writeln!(
            out,
            "<tr><td colspan=\"3\">and {} more, not listed</td></tr>",
            listed.more
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_is_said() {
        let none = listed(&[], LISTED_MAX + 7, "");

        assert_eq!(none.more, LISTED_MAX + 7);
        assert!(html(&none).contains("1007 more"));
        assert_eq!(html(&listed(&[], 0, "")), "");
    }
}
