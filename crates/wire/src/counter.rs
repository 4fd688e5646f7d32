//! Counters, and the reasons that things are counted by: each is declared once, with what it means, its name and its
//! unit.
//!
//! ```ignore
//! counters! {
//!     /// What a door counted.
//!     pub struct DoorCounters, "door_" {
//!         /// Guests that came in.
//!         entered: Counter "guests",
//!         /// Guests that are inside at this moment.
//!         inside: Gauge "guests",
//!     }
//! }
//! ```
//!
//! From that come the fields, their sums, and [`Declared`], which tables, JSON, metrics and help are made of. Not the
//! counting, and not the rows (`levada::view`). Used by whatever counts. Invariant: what is counted is shown, under a
//! name of its own.

use serde::{Deserialize, Serialize};

/// Whether a count only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It only grows, since the start.
    Counter,
    /// It is how many there are at this moment.
    Gauge,
}

/// One counter as it is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Its name, in `snake_case`, the same everywhere it is shown.
    pub name: &'static str,
    /// What it means, in a sentence.
    pub help: &'static str,
    /// Of what, in the plural.
    pub unit: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
}

/// Writes a struct of counts from its one table: doc, field, kind, unit, and a name of its own where prefix and field
/// make none. `with` adds fields that are no counts; then the sum of two is the caller's, who has `add_counts`.
#[macro_export]
macro_rules! counters {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident, $prefix:literal {
            $($(#[doc = $help:literal])+ $field:ident: $kind:ident $unit:literal $(as $word:literal)?,)+
        }
    ) => {
        $crate::counters! {
            $(#[$meta])*
            $vis struct $name, $prefix {
                $($(#[doc = $help])+ $field: $kind $unit $(as $word)?,)+
            } with {}
        }

        impl std::ops::AddAssign<&Self> for $name {
            fn add_assign(&mut self, other: &Self) {
                self.add_counts(other);
            }
        }
    };
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident, $prefix:literal {
            $($(#[doc = $help:literal])+ $field:ident: $kind:ident $unit:literal $(as $word:literal)?,)+
        } with {
            $($(#[$other_meta:meta])* $other_vis:vis $other:ident: $type:ty,)*
        }
    ) => {
        $(#[$meta])*
        $vis struct $name {
            $($(#[doc = $help])+ pub $field: u64,)+
            $($(#[$other_meta])* $other_vis $other: $type,)*
        }

        impl $name {
            /// Each count as it is declared, in the order of tables.
            $vis const DECLARED: &'static [$crate::counter::Declared] = &[$(
                $crate::counter::Declared {
                    name: $crate::counters!(@name $prefix, $field $(, $word)?),
                    help: concat!($($help),+).trim_ascii_start(),
                    unit: $unit,
                    kind: $crate::counter::Kind::$kind,
                },
            )+];

            /// Each count with its declaration.
            $vis fn counts(&self) -> impl Iterator<Item = (&'static $crate::counter::Declared, u64)> {
                Self::DECLARED.iter().zip([$(self.$field),+])
            }

            /// Adds the counts of another.
            const fn add_counts(&mut self, other: &Self) {
                $(self.$field += other.$field;)+
            }
        }
    };
    (@name $prefix:literal, $field:ident) => {
        concat!($prefix, stringify!($field))
    };
    (@name $prefix:literal, $field:ident, $word:literal) => {
        $word
    };
}

/// Writes an enum of reasons from its one table, so that no list of them can lack one: counts are indexed by them.
#[macro_export]
macro_rules! reasons {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident {
            $($(#[doc = $help:literal])+ $(#[error($($error:tt)+)])? $reason:ident => $word:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        $vis enum $name {
            $($(#[doc = $help])+ $(#[error($($error)+)])? $reason,)+
        }

        impl $name {
            /// All reasons, in the order of tables.
            $vis const ALL: [Self; [$($word),+].len()] = [$(Self::$reason),+];

            /// The reason in one word, in `snake_case`.
            #[must_use]
            $vis const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$reason => $word,)+
                }
            }

            /// What it means, in a sentence.
            #[must_use]
            $vis const fn help(self) -> &'static str {
                match self {
                    $(Self::$reason => concat!($($help),+).trim_ascii_start(),)+
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::counters! {
        /// What a door counted.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        struct DoorCounters, "door_" {
            /// Guests that came in,
            /// by whichever wing.
            entered: Counter "guests",
            /// Guests that are inside at this moment.
            inside: Gauge "guests" as "guests_inside",
        }
    }

    crate::reasons! {
        /// Why a guest was sent away.
        enum Refusal {
            /// The house is full.
            Full => "full",
            /// No shoes.
            Barefoot => "barefoot",
        }
    }

    #[test]
    fn what_is_declared_is_counted_summed_and_told() {
        let mut door = DoorCounters {
            entered: 3,
            inside: 1,
        };
        let other = door;

        door += &other;

        let told: Vec<_> = door
            .counts()
            .map(|(declared, count)| (declared.name, count))
            .collect();
        assert_eq!(told, [("door_entered", 6), ("guests_inside", 2)]);
        let entered = DoorCounters::DECLARED[0];
        assert_eq!(entered.help, "Guests that came in, by whichever wing.");
        assert_eq!((entered.unit, entered.kind), ("guests", Kind::Counter));
        assert_eq!(DoorCounters::DECLARED[1].kind, Kind::Gauge);
    }

    #[test]
    fn each_reason_has_its_word_and_its_meaning() {
        let told = Refusal::ALL.map(|reason| (reason.as_str(), reason.help()));

        assert_eq!(
            told,
            [("full", "The house is full."), ("barefoot", "No shoes.")]
        );
    }
}
