//! How well a flow is heard on its channels: what comes at the first try, and what does not.
//!
//! ```text
//!  heard      7 8 9 . 11 12   9        a number above all before it came at the first try;
//!  counts     + + + - +  +    0        what it passes over did not; what is repaired says nothing of the channel
//! ```
//!
//! Told about each 100 ms while packets come, for the core to judge by. Silence is not told here: nobody knows from one
//! channel whether a flow pauses (`suspicion.rs`). Called by `forward` for each proven packet that was heard.
//! Invariant: a few words of memory, and nothing for a flow that is not heard.

use std::time::Duration;

use levada_wire::lane::Heard;
use levada_wire::{Instant, LinkIndex, Number};

/// How often the core is told.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// What was heard since the core was told last.
#[derive(Clone, Copy, Debug)]
struct Count {
    link: LinkIndex,
    since: Instant,
    first: Number,
    highest: Number,
    packets: u64,
}

/// See the module's head.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hearing(Option<Count>);

impl Hearing {
    /// Nothing was heard yet.
    pub(crate) const fn clear(&mut self) {
        self.0 = None;
    }

    /// A packet was heard; gives what the core is to be told now. `lacks` says whether something below a number is
    /// missing.
    pub(crate) fn note(
        &mut self,
        link: LinkIndex,
        number: Number,
        now: Instant,
        lacks: impl Fn(Number) -> bool,
    ) -> Option<Heard> {
        let Some(count) = self.0.as_mut().filter(|count| count.link == link) else {
            self.0 = Some(Count {
                link,
                since: now,
                first: number,
                highest: number,
                packets: 1,
            });
            return None;
        };
        if number > count.highest {
            count.highest = number;
            count.packets += 1;
        }
        if now.since(count.since) < TELL_EVERY {
            return None;
        }
        let span = count.highest.next().value() - count.first.value();
        let heard = Heard {
            link,
            packets: count.packets,
            lost: span.saturating_sub(count.packets),
            is_whole: !lacks(count.first),
        };
        *count = Count {
            link,
            since: now,
            first: count.highest.next(),
            highest: count.highest,
            packets: 0,
        };
        Some(heard)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    const LINK: LinkIndex = LinkIndex(1);

    /// Hears those numbers, 10 ms apart from `from` on, and gives what is told.
    fn hear(hearing: &mut Hearing, from: u64, numbers: &[u64]) -> Vec<Heard> {
        let at = |step: u64| Instant::from_nanos((from + step * 10) * 1_000_000);
        let told = numbers.iter().enumerate().filter_map(|(step, &number)| {
            let number = Number::new(number).unwrap();
            hearing.note(LINK, number, at(step as u64), |_| false)
        });
        told.collect()
    }

    #[test]
    fn what_is_passed_over_is_lost_and_what_is_repaired_does_not_count() {
        let mut hearing = Hearing::default();

        let told = hear(&mut hearing, 0, &[7, 8, 9, 11, 12, 10, 15, 16, 17, 18, 19]);

        let [heard] = told[..] else {
            panic!("{told:?}");
        };
        assert_eq!((heard.packets, heard.lost), (10, 3));
        let told = hear(
            &mut hearing,
            101,
            &[20, 21, 19, 22, 23, 24, 25, 26, 27, 28, 30],
        );
        assert_eq!((told[0].packets, told[0].lost), (10, 1));
    }

    #[test]
    fn it_is_whole_if_nothing_from_before_is_missing() {
        let mut hearing = Hearing::default();
        let at = |millis: u64| Instant::from_nanos(millis * 1_000_000);
        let number = |value| Number::new(value).unwrap();
        let lacks = |below: Number| below > number(5);

        assert_eq!(hearing.note(LINK, number(5), at(0), lacks), None);
        let whole = hearing.note(LINK, number(9), at(200), lacks).unwrap();
        let holey = hearing.note(LINK, number(10), at(400), lacks).unwrap();

        assert!(whole.is_whole && !holey.is_whole);
        hearing.clear();
        assert_eq!(hearing.note(LINK, number(11), at(500), lacks), None);
    }
}
