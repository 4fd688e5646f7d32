//! When a transport stream's clock (PCR) and tables are due, by media time.
//!
//! Frames of the clock track carry the clock, [`LEAD_TICKS`] before their decoding time. Where they are further
//! apart than the clock may be, packets with nothing but the clock go between. While the clock track is silent
//! (a slide show, a gap), other tracks push the clock forward, staying [`SKEW_TICKS`] behind, so that it never
//! overtakes the clock track. Not the writing of packets (`mux.rs`). Called by the muxer. Invariant: the clock
//! never goes back, but for a jump that is marked as one.

/// How far the clock runs before the decoding times: 100 ms, within which players expect a frame's bytes.
const LEAD_TICKS: i64 = 9_000;
/// How far another track may be ahead of the clock track before it pushes the clock: 250 ms.
const SKEW_TICKS: i64 = 22_500;
/// The longest way between two clock values: 40 ms (ETSI TR 101 290 2.3; ISO 13818-1 allows 100).
pub(super) const CLOCK_TICKS_MAX: i64 = 3_600;
/// The longest way between two tables: 100 ms (DVB recommends it, ETSI TR 101 211 4.1.7).
pub(super) const TABLES_TICKS_MAX: i64 = 9_000;
/// A gap up to 1 s is filled with clock values; in a longer one nothing was sent, and nothing is made up.
const FILL_TICKS_MAX: i64 = 90_000;
/// Times that fall by more than 10 s are a new clock; by less, frames that are late.
const JUMP_TICKS: i64 = 900_000;

/// A value of the clock, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) ticks: i64,
    /// It does not follow from the one before.
    pub(super) jump: bool,
}

/// What goes before a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Tables,
    Value(Value),
}

/// A frame, as far as the clock is concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) dts: i64,
    /// It is the clock track's.
    pub(super) leads: bool,
    /// A player may start with it.
    pub(super) starts_group: bool,
}

/// What is due with a frame.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// Before it, in this order; at most [`FILL_TICKS_MAX`] / [`CLOCK_TICKS_MAX`] values.
    pub(super) before: Vec<Step>,
    /// In the frame's own first packet.
    pub(super) with: Option<Value>,
}

#[derive(Debug, Default)]
pub(super) struct Clock {
    newest: Option<i64>,
    /// Where the clock stood at the newest tables.
    tables_at: Option<i64>,
}

impl Clock {
    /// Says what is due with a frame, and takes it as written.
    pub(super) fn advance(&mut self, moment: Moment) -> Due {
        let Moment {
            dts,
            leads,
            starts_group,
        } = moment;
        let target = dts.saturating_sub(if leads {
            LEAD_TICKS
        } else {
            LEAD_TICKS + SKEW_TICKS
        });
        let mut due = Due::default();
        if starts_group {
            self.renew_tables();
        }
        match self.newest {
            Some(newest) if newest.saturating_sub(target) > JUMP_TICKS => {
                self.renew_tables();
                self.set(
                    Value {
                        ticks: target,
                        jump: true,
                    },
                    leads,
                    &mut due,
                );
            }
            Some(newest) if target.saturating_sub(newest) <= FILL_TICKS_MAX => {
                self.fill(newest, target, &mut due);
                if leads && self.newest.is_some_and(|newest| newest < target) {
                    self.set(
                        Value {
                            ticks: target,
                            jump: false,
                        },
                        leads,
                        &mut due,
                    );
                }
            }
            _ => self.set(
                Value {
                    ticks: target,
                    jump: false,
                },
                leads,
                &mut due,
            ),
        }
        self.tables_if_due(&mut due);
        due
    }

    /// The tables go before whatever comes next.
    pub(super) const fn renew_tables(&mut self) {
        self.tables_at = None;
    }

    fn fill(&mut self, newest: i64, target: i64, due: &mut Due) {
        let mut ticks = newest;
        while target.saturating_sub(ticks) > CLOCK_TICKS_MAX {
            ticks += CLOCK_TICKS_MAX;
            self.set(Value { ticks, jump: false }, false, due);
        }
    }

    fn set(&mut self, value: Value, leads: bool, due: &mut Due) {
        self.newest = Some(value.ticks);
        self.tables_if_due(due);
        if leads {
            due.with = Some(value);
        } else {
            due.before.push(Step::Value(value));
        }
    }

    fn tables_if_due(&mut self, due: &mut Due) {
        let now = self.newest.unwrap_or(0);
        // One clock step later may be too late.
        let latest = TABLES_TICKS_MAX - CLOCK_TICKS_MAX;
        if self
            .tables_at
            .is_none_or(|at| now.saturating_sub(at) > latest)
        {
            self.tables_at = Some(now);
            due.before.push(Step::Tables);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leading(dts: i64) -> Moment {
        Moment {
            dts,
            leads: true,
            starts_group: false,
        }
    }

    fn other(dts: i64) -> Moment {
        Moment {
            dts,
            leads: false,
            starts_group: false,
        }
    }

    fn value(ticks: i64) -> Value {
        Value { ticks, jump: false }
    }

    #[test]
    fn the_first_frame_has_tables_and_clock() {
        let lead = Clock::default().advance(leading(10_000));
        let rest = Clock::default().advance(other(40_000));

        assert_eq!(
            lead,
            Due {
                before: vec![Step::Tables],
                with: Some(value(1_000))
            }
        );
        let before = vec![Step::Tables, Step::Value(value(8_500))];
        assert_eq!(rest, Due { before, with: None });
    }

    #[test]
    fn a_silent_clock_track_is_filled_in_and_not_overtaken() {
        let mut clock = Clock::default();
        clock.advance(leading(9_000));

        // 250 ms ahead are not enough to push the clock.
        assert_eq!(clock.advance(other(31_500)), Due::default());
        let pushed = clock.advance(other(31_500 + 2 * CLOCK_TICKS_MAX));
        assert_eq!(pushed.before, [Step::Value(value(3_600))]);
        let filled = clock.advance(leading(9_000 + 12_000));
        assert_eq!(
            filled.before[..2],
            [Step::Tables, Step::Value(value(7_200))]
        );
        assert_eq!(filled.with, Some(value(12_000)));
    }

    #[test]
    fn a_late_frame_does_not_turn_the_clock_back() {
        let mut clock = Clock::default();
        clock.advance(leading(100_000));

        assert_eq!(clock.advance(leading(99_000)), Due::default());
    }

    #[test]
    fn a_long_gap_is_not_filled_and_a_new_clock_is_marked() {
        let mut clock = Clock::default();
        clock.advance(leading(2_000_000));

        let after_gap = clock.advance(leading(2_000_000 + FILL_TICKS_MAX + 1));
        let anew = clock.advance(leading(9_000));

        assert_eq!(after_gap.before, [Step::Tables]);
        assert_eq!(
            anew.with,
            Some(Value {
                ticks: 0,
                jump: true
            })
        );
        assert_eq!(anew.before, [Step::Tables]);
    }

    #[test]
    fn a_group_starts_with_tables() {
        let mut clock = Clock::default();
        clock.advance(leading(9_000));

        let start = clock.advance(Moment {
            starts_group: true,
            ..leading(9_010)
        });

        assert_eq!(
            start,
            Due {
                before: vec![Step::Tables],
                with: Some(value(10))
            }
        );
    }
}
