//! What `play` says while nothing comes, and when it gives up.
//!
//! ```text
//!   start ── 2 s of nothing ──▶ says why ── 3 s more of no such stream ──▶ fails, unless --wait
//!   frames ── 2 s of nothing ──▶ says why, once for each reason
//! ```
//!
//! Invariant: a reason is said once until it changes or frames come again; losses are said at most once a minute.

use std::time::Duration;

use anyhow::bail;
use levada::view::{LinkRow, StreamRow};
use levada::{Delivery, Gap, State, StreamName, View};
use tokio::time::Instant;

use crate::access::Access;
use crate::say;

/// Nothing for this long is worth a word.
const SILENCE: Duration = Duration::from_secs(2);
/// A stream that nobody knows for this long does not exist.
const UNKNOWN_MAX: Duration = Duration::from_secs(5);
/// While nothing comes, how often it is looked why.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often at most losses are said.
const LOSSES_EVERY: Duration = Duration::from_secs(60);
/// Of what is known, how many names are listed.
const LISTED_MAX: usize = 20;

/// Watches what comes, and what does not.
#[derive(Debug)]
pub(super) struct Waiting {
    name: StreamName,
    for_ever: bool,
    state: State,
    /// Since when nobody knows the stream.
    unknown_since: Option<Instant>,
    has_played: bool,
    /// When to look why nothing comes.
    look: Instant,
    said: Option<String>,
    losses_said: Option<Instant>,
}

impl Waiting {
    pub(super) fn new(name: &StreamName, for_ever: bool) -> Self {
        let now = Instant::now();
        Self {
            name: name.clone(),
            for_ever,
            state: State::Unknown,
            unknown_since: Some(now),
            has_played: false,
            look: now + SILENCE,
            said: None,
            losses_said: None,
        }
    }

    /// Notes what came.
    pub(super) fn note(&mut self, delivery: &Delivery) {
        let now = Instant::now();
        match delivery {
            Delivery::State(state) => {
                let is_unknown = matches!(state, State::Unknown);
                self.unknown_since = is_unknown.then(|| self.unknown_since.unwrap_or(now));
                self.state = state.clone();
            }
            Delivery::Frame { .. } => {
                let was_waiting = self.said.take().is_some();
                if !std::mem::replace(&mut self.has_played, true) {
                    say::note(format_args!("playing `{}`", self.name));
                } else if was_waiting {
                    say::note(format_args!("`{}` goes on", self.name));
                }
                self.unknown_since = None;
                self.look = now + SILENCE;
            }
            Delivery::Gap(gap) => self.on_gap(*gap, now),
            Delivery::End => say::note(format_args!("`{}` has ended", self.name)),
            _ => {}
        }
    }

    fn on_gap(&mut self, gap: Gap, now: Instant) {
        let is_new = self
            .losses_said
            .is_none_or(|said| now - said >= LOSSES_EVERY);
        if !is_new {
            return;
        }
        self.losses_said = Some(now);
        let count = match (gap.packets, gap.frames) {
            (0, 0) => String::new(),
            (0, frames) => format!(" ({frames} frames)"),
            (packets, _) => format!(" ({packets} packets)"),
        };
        say::note(format_args!("something is missing: {}{count}", gap.reason));
    }

    /// Waits until it is time to look why nothing comes.
    pub(super) async fn lapse(&self) {
        tokio::time::sleep_until(self.look).await;
    }

    /// Says why nothing comes, or that it never will.
    pub(super) async fn speak(&mut self, access: &Access) -> anyhow::Result<()> {
        let now = Instant::now();
        self.look = now + LOOK_EVERY;
        let view = access.view().await?;
        let is_hopeless = self
            .unknown_since
            .is_some_and(|since| now - since >= UNKNOWN_MAX)
            && !self.has_played
            && !self.for_ever;
        if is_hopeless {
            bail!(hopeless(&self.name, &view.streams, &view.links));
        }
        let why = format!("waiting for `{}`: {}", self.name, self.why(&view));
        if self.said.as_ref() != Some(&why) {
            say::note(&why);
            self.said = Some(why);
        }
        Ok(())
    }

    /// Why nothing comes: what the node waits for, and what is wrong with its links if none is up.
    fn why(&self, view: &View) -> String {
        let of_stream = view.flows.iter().map(|row| &row.control);
        let mut of_stream = of_stream.filter(|row| row.name == self.name);
        let reason = match (&self.state, of_stream.find_map(|row| row.cause)) {
            (State::Active { .. }, Some(cause)) => cause.to_string(),
            (State::Active { .. }, None) => "nothing comes from its origin".to_owned(),
            (state, _) => state.to_string(),
        };
        match links_down(&view.links) {
            Some(links) if !links.is_empty() => format!("{reason} ({links})"),
            _ => reason,
        }
    }
}

/// What is wrong with each link, if none is up.
fn links_down(links: &[LinkRow]) -> Option<String> {
    let links = links.iter().map(|row| &row.control);
    if links.clone().any(|row| row.state.is_up()) {
        return None;
    }
    let states = links.map(|row| match &row.cause {
        None => format!("{} is {}", row.remote, row.state),
        Some(cause) => format!("{}: {cause}", row.remote),
    });
    Some(states.collect::<Vec<_>>().join("; "))
}

/// Why a stream cannot come, what could, and what to do.
fn hopeless(name: &StreamName, streams: &[StreamRow], links: &[LinkRow]) -> String {
    let mut known: Vec<_> = streams.iter().map(|row| row.name.as_str()).collect();
    known.sort_unstable();
    known.dedup();
    let more = known.len().saturating_sub(LISTED_MAX);
    known.truncate(LISTED_MAX);
    let known = match (known.len(), more) {
        (0, _) => "no other is known either".to_owned(),
        (_, 0) => format!("known: {}", known.join(", ")),
        (_, more) => format!("known: {} and {more} more", known.join(", ")),
    };
    let advice = match links_down(links) {
        None => "is its origin running?".to_owned(),
        Some(links) if links.is_empty() => {
            "this node has no neighbour: name one with --join".to_owned()
        }
        Some(links) => format!("no link is up ({links}): is --join right, and does that node run?"),
    };
    format!("no stream `{name}`; {known}; {advice} (--wait waits for it)")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use levada::view::{LinkControl, LinkCounters, LinkState, Remote};

    use super::*;

    fn link(state: LinkState, cause: Option<&str>) -> LinkRow {
        let remote = Remote::Address(([10, 0, 0, 1], 7800).into());
        LinkRow {
            control: LinkControl {
                cause: cause.map(str::to_owned),
                ..LinkControl::to(remote, state)
            },
            counters: LinkCounters::default(),
        }
    }

    #[test]
    fn a_stream_that_cannot_come_is_explained_by_what_is_known() {
        let name = "cam".parse().unwrap();
        for (links, part) in [
            (vec![], "no neighbour: name one with --join"),
            (
                vec![link(LinkState::Waiting, Some("no answer"))],
                "10.0.0.1:7800: no answer",
            ),
            (
                vec![link(LinkState::Up, None)],
                "no other is known either; is its origin running?",
            ),
        ] {
            let text = hopeless(&name, &[], &links);
            assert!(text.starts_with("no stream `cam`; "), "{text}");
            assert!(text.contains(part), "{text}");
        }
    }
}
