//! What happens at the node, as a readable history: the last [`KEPT_MAX`] events, and new ones as they come.
//!
//! ```text
//!   Node::events ─▶ keep ─▶ Log: ring of records, numbered ─▶ JSON
//!                             └▶ broadcast ─▶ server-sent events, from `Last-Event-ID` on
//! ```
//!
//! Not rows, which `watch` sends. Called by the router. Invariant: each record has the next number, so that who comes
//! back with the last one that it saw gets what it missed, or learns that there was more.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use levada::{Event, Events};
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};

use crate::Shared;
use crate::problem::Problem;
use crate::watch::Messages;

/// Events that are remembered.
pub const KEPT_MAX: usize = 1_000;
/// Listeners at once.
pub const LISTENERS_MAX: usize = 64;
/// New events that may wait for a listener, before it is told to read the history again.
const WAITING_MAX: usize = 64;
/// How often a quiet connection shows that it lives.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Something that happened, and when.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Record {
    id: u64,
    at_unix_ms: u64,
    kind: &'static str,
    /// For people.
    text: String,
    peer: Option<String>,
    stream: Option<String>,
}

impl Record {
    /// Of now; its number comes with the history.
    fn new(kind: &'static str, text: String) -> Self {
        let at = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            id: 0,
            at_unix_ms: u64::try_from(at.unwrap_or_default().as_millis()).unwrap_or(u64::MAX),
            kind,
            text,
            peer: None,
            stream: None,
        }
    }
}

/// The history.
#[derive(Debug)]
pub(crate) struct Log {
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    next: u64,
    records: VecDeque<Record>,
    news: broadcast::Sender<Record>,
}

impl Default for Log {
    fn default() -> Self {
        let kept = Kept {
            next: 1,
            records: VecDeque::new(),
            news: broadcast::Sender::new(WAITING_MAX),
        };
        Self {
            kept: Mutex::new(kept),
        }
    }
}

impl Log {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept
            .lock()
            .expect("no code that can panic runs under this lock")
    }

    fn record(&self, event: &Event) {
        self.push(Record {
            peer: event.peer().map(|peer| peer.to_string()),
            stream: event.stream().map(ToString::to_string),
            ..Record::new(event.kind(), event.to_string())
        });
    }

    /// Remembers what the program around the node says.
    pub(crate) fn note(&self, text: String) {
        self.push(Record::new("note", text));
    }

    fn push(&self, mut record: Record) {
        let mut kept = self.kept();
        record.id = kept.next;
        kept.next += 1;
        if kept.records.len() == KEPT_MAX {
            kept.records.pop_front();
        }
        kept.records.push_back(record.clone());
        // Nobody may listen.
        let _ = kept.news.send(record);
    }

    fn all(&self) -> Vec<Record> {
        self.kept().records.iter().cloned().collect()
    }

    /// What came after the record of that number, and what comes; none if too many listen.
    fn listen(&self, after: Option<u64>) -> Option<(Vec<Record>, broadcast::Receiver<Record>)> {
        let kept = self.kept();
        if kept.news.receiver_count() >= LISTENERS_MAX {
            return None;
        }
        let missed = kept.records.iter();
        let missed = missed.filter(|record| after.is_some_and(|after| record.id > after));
        Some((missed.cloned().collect(), kept.news.subscribe()))
    }
}

/// Writes the history while the node lives.
pub(crate) async fn keep(shared: Arc<Shared>, mut events: Events) {
    while let Some(event) = events.next().await {
        shared.log.record(&event);
    }
}

#[derive(Serialize)]
struct Body {
    version: u32,
    events: Vec<Record>,
}

pub(crate) async fn serve(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let wants_stream = text("accept").is_some_and(|accept| accept.contains("text/event-stream"));
    if !wants_stream {
        let (version, events) = (levada::view::VERSION, shared.log.all());
        return Ok(Json(Body { version, events }).into_response());
    }
    let after = text("last-event-id").and_then(|id| id.parse().ok());
    let Some((missed, news)) = shared.log.listen(after) else {
        let detail = "too many listen to events already: close one of the pages";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    };
    let (to, messages) = mpsc::channel(WAITING_MAX);
    tokio::spawn(follow(missed, news, to));
    let sse = Sse::new(Messages(messages)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok(([(header::CACHE_CONTROL, "no-store")], sse).into_response())
}

/// Sends a listener what it missed and what comes, until it goes.
async fn follow(
    missed: Vec<Record>,
    mut news: broadcast::Receiver<Record>,
    to: mpsc::Sender<Message>,
) {
    for record in &missed {
        if to.send(message(record)).await.is_err() {
            return;
        }
    }
    loop {
        let record = tokio::select! {
            record = news.recv() => record,
            () = to.closed() => return,
        };
        let sent = match record {
            Ok(record) => to.send(message(&record)).await,
            // Who gets this asks for the history, and is whole again.
            Err(RecvError::Lagged(_)) => {
                to.send(Message::default().event("missed").data("{}")).await
            }
            Err(RecvError::Closed) => return,
        };
        if sent.is_err() {
            return;
        }
    }
}

fn message(record: &Record) -> Message {
    let data = serde_json::to_string(record).expect("numbers and strings can be written");
    let message = Message::default().id(record.id.to_string());
    message.event("event").data(data)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn missed(events: u64) -> Event {
        Event::Missed { events }
    }

    #[test]
    fn the_history_keeps_the_last_and_numbers_all() {
        let log = Log::default();
        for number in 0..KEPT_MAX as u64 + 5 {
            log.record(&missed(number));
        }

        let all = log.all();

        assert_eq!(all.len(), KEPT_MAX);
        assert_eq!((all[0].id, all[KEPT_MAX - 1].id), (6, KEPT_MAX as u64 + 5));
        assert_eq!(all[0].text, "5 events were missed");
    }

    #[test]
    fn who_comes_back_gets_what_it_missed_and_who_comes_first_only_what_comes() {
        let log = Log::default();
        (0..3).for_each(|number| log.record(&missed(number)));
        let ids = |records: Vec<Record>| records.iter().map(|it| it.id).collect::<Vec<_>>();

        let (back, mut news) = log.listen(Some(1)).unwrap();
        let (first, _) = log.listen(None).unwrap();
        log.record(&missed(9));

        assert_eq!((ids(back), ids(first)), (vec![2, 3], vec![]));
        assert_eq!(news.try_recv().unwrap().id, 4);
    }

    #[test]
    fn only_so_many_listen_at_once() {
        let log = Log::default();
        let listeners: Vec<_> = (0..LISTENERS_MAX)
            .map(|_| log.listen(None).unwrap())
            .collect();

        assert!(log.listen(None).is_none());
        drop(listeners);
        assert!(log.listen(None).is_some());
    }
}
