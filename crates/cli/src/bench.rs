//! Measurements of the datapath on this machine, each beside its floor: the kernel's part of the same work alone.
//!
//! | file | what |
//! |---|---|
//! | `bench/fanout`, `hop`, `join`, `loss`, `micro`, `soak` | what is measured, one each |
//! | `bench/traffic`, `origin` | frames as a camera makes them; real origins that cut and seal them |
//! | `bench/contender` | who does the work: a real lane over real sockets, or a floor |
//! | `bench/receivers` | the far ends |
//! | `bench/drive` | feeds a contender and counts what arrives |
//! | `bench/chain` | nodes in a row, for `loss` |
//! | `bench/forwarder`, `impair` | the bad paths between them: sockets, and what is decided |
//! | `bench/cpu`, `stats` | processor time by thread; medians and percentiles |
//!
//! Not the commands' flags and tables (`commands/bench.rs`). Invariant: a figure without its floor from the same run is
//! not printed, and nothing is printed that was not measured.

pub(crate) mod chain;
pub(crate) mod contender;
pub(crate) mod cpu;
pub(crate) mod drive;
pub(crate) mod fanout;
pub(crate) mod forwarder;
pub(crate) mod hop;
pub(crate) mod impair;
pub(crate) mod join;
pub(crate) mod loss;
pub(crate) mod micro;
pub(crate) mod origin;
pub(crate) mod receivers;
pub(crate) mod soak;
pub(crate) mod stats;
pub(crate) mod traffic;
