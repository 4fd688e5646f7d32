//! The libFuzzer program of every target: it is built once under the name of each.
//!
//! Not the targets: `levada_fuzz::targets`. Started by `cargo fuzz`, see `fuzz/README.md`. Invariant: none of its own.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| levada_fuzz::run(env!("CARGO_BIN_NAME"), input));
