//! What the API is, for programs that make clients of it: an OpenAPI 3.1 document at `/api/v1/openapi.json`.
//!
//! ```text
//!   OPERATIONS ─▶ paths        fields(table) ─▶ schemas of rows
//! ```
//!
//! Not the router. Called by the router. Invariant: rows may have more
//! fields than are listed, as the next release does; those that are listed are there and of that type.

use axum::Json;
use serde_json::{Map, Value, json};

use crate::rows::Table;

/// What an operation answers when all is well.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// The rows of a table, with their version.
    Rows,
    /// Server-sent events.
    Events,
    /// An object.
    Object,
    /// Lines of text.
    Text,
    /// Nothing; the status says it.
    Status(u16),
}

/// Something that can be asked or done.
#[derive(Debug)]
struct Operation {
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    answer: Answer,
    /// Parameters of the query.
    query: &'static [(&'static str, &'static str)],
    /// Statuses of what can be wrong besides 403, each with a problem.
    problems: &'static [u16],
}

const fn get(
    path: &'static str,
    summary: &'static str,
    answer: Answer,
    problems: &'static [u16],
) -> Operation {
    Operation {
        method: "get",
        path,
        summary,
        answer,
        query: &[],
        problems,
    }
}

/// All of them but the tables, which follow from [`Table`].
const OPERATIONS: [Operation; 16] = [
    get("/api/v1", "What there is", Answer::Object, &[]),
    get("/api/v1/openapi.json", "This document", Answer::Object, &[]),
    get("/api/v1/node", "The node itself", Answer::Object, &[503]),
    get(
        "/api/v1/trace/{name}",
        "The way of a stream to this node, hop by hop, this node first",
        Answer::Rows,
        &[400, 404, 503],
    ),
    get(
        "/api/v1/events",
        "What happened, the last thousand events; with `Accept: text/event-stream` what happens",
        Answer::Object,
        &[503],
    ),
    get(
        "/api/v1/history",
        "Rates, loss and load over the last minutes and hours",
        Answer::Object,
        &[],
    ),
    Operation {
        query: &[("tables", "Names of tables, with commas between them")],
        ..get(
            "/api/v1/watch",
            "Tables as they change: a snapshot of each, then what became of it",
            Answer::Events,
            &[400, 404, 503],
        )
    },
    Operation {
        method: "delete",
        ..get(
            "/api/v1/sessions/{id}",
            "Ends a session",
            Answer::Status(204),
            &[404],
        )
    },
    Operation {
        method: "post",
        ..get(
            "/api/v1/streams",
            "Publishes a stream: the test card, `udp://`, `rtp://`, or a file below `media_dir`",
            Answer::Status(201),
            &[400, 501],
        )
    },
    Operation {
        method: "delete",
        ..get(
            "/api/v1/streams/{name}",
            "Takes back a stream that was published here",
            Answer::Status(204),
            &[400, 501],
        )
    },
    Operation {
        method: "post",
        ..get(
            "/api/v1/links",
            "Keeps a link to one more neighbour",
            Answer::Status(202),
            &[400, 503],
        )
    },
    Operation {
        method: "delete",
        ..get(
            "/api/v1/links/{link}",
            "Dials the node at the other end no more, and closes the link",
            Answer::Status(204),
            &[404, 503],
        )
    },
    Operation {
        method: "post",
        ..get(
            "/api/v1/leave",
            "Has the node leave the network and stop",
            Answer::Status(202),
            &[],
        )
    },
    get(
        "/metrics",
        "All counters, for Prometheus",
        Answer::Text,
        &[503],
    ),
    get(
        "/health",
        "Whether the process serves requests",
        Answer::Text,
        &[],
    ),
    get(
        "/ready",
        "Whether the node does its work",
        Answer::Text,
        &[503],
    ),
];

/// Fields of a row that are always there: name and type; `?` where it may be null.
fn fields(table: Table) -> &'static str {
    match table {
        Table::Streams => {
            "name string, origin string, instance string, group_base integer, flow string, state string, \
             distance_seconds number?, is_local boolean, peak_bps integer, tracks array, subscriptions integer, \
             children integer"
        }
        Table::Nodes => {
            "id string, name string, role string, address string?, distance_seconds number?, is_relay boolean?, \
             streams integer"
        }
        Table::Links => {
            "link integer?, peer string?, name string, remote string, state string, cause string?, \
             rtt_seconds number?, loss_in_ratio number?, loss_out_ratio number?, is_relay boolean, \
             packet_bytes integer?, is_packet_size_proven boolean, is_congested boolean, admitted_bps integer, \
             datagrams_in integer, datagrams_out integer"
        }
        Table::Flows => {
            "flow string, name string, origin string, state string, peak_bps integer, upstream integer?, \
             egresses array, subscriptions integer, packets_in integer, bytes_in integer, packets_out integer, \
             bytes_out integer, cached_packets integer, newcomers integer, behind integer, repaired integer, \
             withheld integer, is_joinable boolean"
        }
        Table::Routes => {
            "origin string, distance_seconds number?, link integer?, feasible_backups integer"
        }
        Table::Counters => {
            "name string, reason string?, value integer, unit string, kind string, help string"
        }
        Table::Site => {
            "node string, is_this boolean, role string, epoch integer?, address string?, priority integer, \
             is_relay boolean, is_wireless boolean, has_uplink boolean, heard_seconds number?, \
             loss_link_ratio number?, loss_admin_ratio number?, cause string?, interfaces array"
        }
        Table::Sessions => {
            "id integer, role string, stream string, protocol string, transport string, user string?, \
             remote string, agent string, since_unix_ms integer, bytes integer, skips integer, ended string?"
        }
        Table::Map => {
            "id string, name string, hops integer, via string?, is_relay boolean, is_hub boolean, \
             uptime_seconds number, cause string?, links array, flows array, links_total integer, \
             streams_total integer"
        }
    }
}

/// The schema of a row.
pub(crate) fn schema(table: Table) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for field in fields(table).split(',') {
        let (name, kind) = field
            .trim()
            .split_once(' ')
            .expect("each field has a name and a type");
        let schema = match kind.strip_suffix('?') {
            Some(kind) => json!({ "type": [kind, "null"] }),
            None => json!({ "type": kind }),
        };
        properties.insert(name.to_owned(), schema);
        required.push(name);
    }
    json!({ "type": "object", "properties": properties, "required": required })
}

fn content(media_type: &str, schema: Value) -> Value {
    json!({ media_type: { "schema": schema } })
}

fn rows_of(row: Value) -> Value {
    json!({
        "type": "object",
        "properties": { "version": { "type": "integer" }, "rows": { "type": "array", "items": row } },
        "required": ["version", "rows"],
    })
}

fn described(operation: &Operation, rows: Value) -> Value {
    let (status, content) = match operation.answer {
        Answer::Rows => (200, Some(content("application/json", rows_of(rows)))),
        Answer::Events => (
            200,
            Some(content("text/event-stream", json!({ "type": "string" }))),
        ),
        Answer::Object => (
            200,
            Some(content("application/json", json!({ "type": "object" }))),
        ),
        Answer::Text => (
            200,
            Some(content("text/plain", json!({ "type": "string" }))),
        ),
        Answer::Status(status) => (status, None),
    };
    let mut well = json!({ "description": operation.summary });
    if let Some(content) = content {
        well["content"] = content;
    }
    let mut responses = json!({ status.to_string(): well });
    // Whoever starts programs asks these two from where it likes.
    let is_open = matches!(operation.path, "/health" | "/ready");
    let refused = (!is_open).then_some(&403);
    for problem in operation.problems.iter().chain(refused) {
        responses[problem.to_string()] = json!({ "$ref": "#/components/responses/Problem" });
    }
    let mut parameters = Vec::new();
    for part in operation.path.split('/') {
        if let Some(name) = part
            .strip_prefix('{')
            .and_then(|part| part.strip_suffix('}'))
        {
            parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
        }
    }
    for (name, what) in operation.query {
        parameters.push(json!({
            "name": name, "in": "query", "required": true, "description": what, "schema": { "type": "string" },
        }));
    }
    let id: String = operation
        .path
        .split(['/', '.', '{', '}'])
        .filter(|part| !part.is_empty() && *part != "api")
        .fold(operation.method.to_owned(), |id, part| {
            format!("{id}_{part}")
        });
    let mut described = json!({
        "operationId": id, "summary": operation.summary, "parameters": parameters, "responses": responses,
    });
    if let Some(body) = request_body(operation) {
        described["requestBody"] = body;
    }
    described
}

/// What is sent with an operation.
fn request_body(operation: &Operation) -> Option<Value> {
    let (properties, required) = match (operation.method, operation.path) {
        ("post", "/api/v1/streams") => (
            json!({ "name": { "type": "string" }, "source": { "type": "string" }, "loop": { "type": "boolean" } }),
            json!(["name", "source"]),
        ),
        ("post", "/api/v1/links") => (
            json!({ "address": { "type": "string" } }),
            json!(["address"]),
        ),
        _ => return None,
    };
    let schema = json!({
        "type": "object", "properties": properties, "required": required, "additionalProperties": false,
    });
    Some(json!({ "required": true, "content": content("application/json", schema) }))
}

/// The whole document.
pub(crate) fn document() -> Value {
    let mut paths = Map::new();
    let mut put = |operation: &Operation, rows: Value| {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method] = described(operation, rows);
    };
    for operation in &OPERATIONS {
        put(operation, json!({ "type": "object" }));
    }
    let mut schemas = Map::new();
    for table in Table::ALL {
        let name = table.name();
        schemas.insert(name.to_owned(), schema(table));
        let reference = json!({ "$ref": format!("#/components/schemas/{name}") });
        let path = format!("/api/v1/{name}");
        let operation = get("", "The rows of a table, as they are", Answer::Rows, &[503]);
        let mut answer = described(&operation, reference);
        answer["operationId"] = json!(format!("get_v1_{name}"));
        let path = paths.entry(path).or_insert_with(|| json!({}));
        path["get"] = answer;
    }
    let problem = json!({
        "type": "object",
        "properties": {
            "status": { "type": "integer" }, "title": { "type": "string" }, "detail": { "type": "string" },
        },
        "required": ["status", "title", "detail"],
    });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Levada", "version": env!("CARGO_PKG_VERSION"),
            "description": "What a node shows and does. It answers this machine only.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": { "Problem": {
                "description": "What was wrong, and what to do (RFC 9457)",
                "content": content("application/problem+json", problem),
            } },
        },
    })
}

pub(crate) async fn serve() -> Json<Value> {
    Json(document())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_operation_has_an_id_of_its_own_and_each_reference_leads_somewhere() {
        let document = document();

        let mut ids = BTreeSet::new();
        for path in document["paths"].as_object().unwrap().values() {
            for operation in path.as_object().unwrap().values() {
                let id = operation["operationId"].as_str().unwrap();
                assert!(ids.insert(id.to_owned()), "{id} is there twice");
            }
        }
        assert_eq!(ids.len(), OPERATIONS.len() + Table::ALL.len());
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
