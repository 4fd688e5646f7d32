//! The laboratory: real `levada` processes on network namespaces that a test makes for itself and removes.
//!
//! ```text
//!   host "origin"        lan "studio"       router        lan "venue"      host "player"
//!  ┌────────────┐ cable ┌────────────┐   ┌──────────┐   ┌────────────┐   ┌────────────┐
//!  │ levada  eth0├──────┤port1  port2├───┤          ├───┤            ├───┤ levada     │
//!  └────────────┘       └────────────┘   └──────────┘   └────────────┘   └────────────┘
//!                         counters, loss and mirrors sit at the ports
//! ```
//!
//! | file | what |
//! |---|---|
//! | `net` | namespaces, switches, routers, and their end |
//! | `host` | a machine with a cable |
//! | `way` | a router that is as far, lossy and narrow as it is told |
//! | `counter` | what the kernel counted on a cable |
//! | `process` | a program on a host: started, killed, stopped, gone on |
//! | `node` | `levada` as such a program |
//! | `browser` | Chromium as such a program, and what it shows |
//! | `clip` | a source as heavy as a story needs |
//! | `recording` | what a player wrote, frame by frame, against its source |
//! | `arrivals` | when each picture of it came |
//! | `pictures` | what a player showed, picture by picture, against its source |
//! | `machine` | whether this machine is to blame |
//! | `wait` | until it is so, or the time is up |
//!
//! Not the simulator: here time is real and so is the kernel. Not shipped. Used by `tests/`, one file for each story.
//! It needs Linux, root, `ip` and `nft`, and says so; elsewhere it is empty. Invariant: nothing outside the namespaces
//! changes, and they are gone after the test, also after a panic, and at the latest when the next test starts.

#![forbid(unsafe_code)]
#![cfg(target_os = "linux")]

pub mod arrivals;
pub mod browser;
pub mod clip;
pub mod counter;
pub mod host;
pub mod machine;
pub mod net;
pub mod node;
pub mod pictures;
pub mod process;
pub mod recording;
pub mod wait;
pub mod way;

mod tool;

pub use arrivals::{Arrivals, wall};
pub use browser::Browser;
pub use clip::{Weight, heavy_clip};
pub use counter::{Count, Counter, Traffic};
pub use host::Host;
pub use levada_bench::impair::Impairment;
pub use machine::undisturbed;
pub use net::{Lan, Net};
pub use node::Node;
pub use pictures::Shown;
pub use process::Process;
pub use recording::{Comparison, Recording, Run, clip_file};
pub use wait::eventually;
pub use way::{Passed, Way};
