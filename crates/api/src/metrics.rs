//! Metrics in Prometheus' text form (version 0.0.4), made of the same declarations as `levada counters`.
//!
//! Names begin with `levada_`, end in their unit, and in `_total` where they only grow; reasons are a label. Links are
//! few and have labels of their own; streams and flows may be a hundred thousand, so only their number is told. Called
//! by the router. Invariant: all samples of one name stand together under one HELP and one TYPE.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use levada::view::{CounterRow, FlowRow, Kind, LinkControl, LinkRow, StreamRow};

use crate::Shared;
use crate::problem::Problem;

const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One metric, and its samples: labels and value.
#[derive(Debug)]
struct Metric {
    help: String,
    kind: Kind,
    samples: Vec<(String, f64)>,
}

/// All metrics by name.
#[derive(Debug, Default)]
struct Metrics(BTreeMap<String, Metric>);

impl Metrics {
    fn add(&mut self, name: &str, kind: Kind, help: &str, labels: &[(&str, &str)], value: f64) {
        let labels = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
        let labels = labels.collect::<Vec<_>>().join(",");
        let metric = self
            .0
            .entry(format!("levada_{name}"))
            .or_insert_with(|| Metric {
                help: help.to_owned(),
                kind,
                samples: Vec::new(),
            });
        metric.samples.push((labels, value));
    }

    fn counter(&mut self, row: &CounterRow) {
        let unit = row.unit.replace(' ', "_");
        let mut name = row.name.to_string();
        if !name.split('_').any(|word| word == unit) {
            let _ = write!(name, "_{unit}");
        }
        if row.kind == Kind::Counter {
            name.push_str("_total");
        }
        let Some(reason) = row.reason.as_deref() else {
            return self.add(&name, row.kind, &row.help, &[], row.value as f64);
        };
        // The row's help is about its reason, and the metric's is about all.
        let help = format!("{}, by reason.", row.name.replace('_', " "));
        self.add(
            &name,
            row.kind,
            &help,
            &[("reason", reason)],
            row.value as f64,
        );
    }

    fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        self.add(name, Kind::Gauge, help, labels, value);
    }

    fn link(&mut self, link: &LinkControl) {
        let (state, remote) = (link.state.to_string(), link.remote.to_string());
        let labels = [("peer", &*link.name), ("remote", &*remote)];
        let with_state = [labels[0], labels[1], ("state", &*state)];
        let up = f64::from(u8::from(link.state.is_up()));
        self.gauge(
            "link_up",
            "Whether the link carries what it is for.",
            &with_state,
            up,
        );
        if let Some(rtt) = link.rtt_seconds {
            let help = "The smoothed round trip of the link.";
            self.gauge("link_rtt_seconds", help, &labels, rtt.0.as_secs_f64());
        }
        for (way, loss) in [("in", link.loss_in_ratio), ("out", link.loss_out_ratio)] {
            if let Some(loss) = loss {
                let help = "What the link loses, toward this node and away.";
                let labels = [labels[0], labels[1], ("way", way)];
                self.gauge(
                    "link_loss_ratio",
                    help,
                    &labels,
                    f64::from(loss.permille) / 1_000.0,
                );
            }
        }
    }

    fn written(&self) -> String {
        let mut text = String::new();
        for (
            name,
            Metric {
                help,
                kind,
                samples,
            },
        ) in &self.0
        {
            let kind = match kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            let help = help.replace('\\', "\\\\").replace('\n', " ");
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in samples {
                let _ = if labels.is_empty() {
                    writeln!(text, "{name} {value}")
                } else {
                    writeln!(text, "{name}{{{labels}}} {value}")
                };
            }
        }
        text
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

pub(crate) async fn serve(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let node = &shared.node;
    let mut metrics = Metrics::default();
    for row in node.rows::<CounterRow>().await? {
        metrics.counter(&row);
    }
    for row in node.rows::<LinkRow>().await? {
        metrics.link(&row.control);
    }
    let streams = node.rows::<StreamRow>().await?.len() as f64;
    metrics.gauge("streams", "Streams that the node knows.", &[], streams);
    let flows = node.rows::<FlowRow>().await?.len() as f64;
    metrics.gauge("flows", "Flows that the node knows.", &[], flows);
    for (role, count) in sessions(&shared) {
        let help = "Players and publishers at the gateways of the node.";
        metrics.gauge("sessions", help, &[("role", &role)], count as f64);
    }
    let about = node.about().await?;
    let uptime = about.uptime_seconds.0.as_secs_f64();
    metrics.gauge("uptime_seconds", "How long the node runs.", &[], uptime);
    let labels = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("node", &*about.name),
    ];
    metrics.gauge("build_info", "Which Levada this is.", &labels, 1.0);
    Ok(([(header::CONTENT_TYPE, MEDIA_TYPE)], metrics.written()).into_response())
}

fn sessions(shared: &Shared) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::from([("play".to_owned(), 0), ("publish".to_owned(), 0)]);
    for row in shared.registry.live() {
        *counts.entry(row.role.to_string()).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_a_name_stand_together_and_say_what_they_are() {
        let mut metrics = Metrics::default();
        metrics.add("b", Kind::Gauge, "What.", &[("x", "a\"b\\c\nd")], 1.5);
        metrics.add("a_total", Kind::Counter, "A\ncount.", &[], 3.0);
        metrics.add("b", Kind::Gauge, "What.", &[("x", "y")], 2.0);

        assert_eq!(
            metrics.written(),
            "# HELP levada_a_total A count.\n# TYPE levada_a_total counter\nlevada_a_total 3\n\
             # HELP levada_b What.\n# TYPE levada_b gauge\nlevada_b{x=\"a\\\"b\\\\c\\nd\"} 1.5\nlevada_b{x=\"y\"} 2\n"
        );
    }
}
