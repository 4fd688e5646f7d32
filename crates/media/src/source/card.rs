//! The built-in test card as a source: `test`, `test-waves`, `test-sound`.
//!
//! Not its picture (`testcard.rs`). Called by `source.rs`. Invariant: each frame leaves when it is due, with
//! the wall clock of that moment.

use crate::{Pacer, TestCard};

use super::{Error, Item, Pending, Source};
use crate::clock::{self, Clock};

/// The test card, for ever.
#[derive(Debug)]
pub(super) struct Card {
    card: TestCard,
    pacer: Pacer,
    clock: Clock,
    is_described: bool,
}

impl Card {
    /// The card of that name, if it is one.
    pub(super) fn named(text: &str) -> Option<Self> {
        Some(Self::of(match text {
            "test" => TestCard::new(),
            "test-waves" => TestCard::waves(),
            "test-sound" => TestCard::sound(),
            _ => return None,
        }))
    }

    fn of(card: TestCard) -> Self {
        Self {
            card,
            pacer: Pacer::new(),
            clock: Clock::start(),
            is_described: false,
        }
    }
}

impl Source for Card {
    fn next(&mut self) -> Pending<'_, Result<Option<Item>, Error>> {
        Box::pin(async {
            if !std::mem::replace(&mut self.is_described, true) {
                return Ok(Some(Item::Description(self.card.description().clone())));
            }
            let due = self.pacer.due(self.card.next_due(), self.clock.now());
            self.clock.wait(due).await;
            Ok(Some(Item::Frame(self.card.next_frame(clock::wall()))))
        })
    }
}
