//! `cargo xtask trial`: the long form of tests of the laboratory that CI runs in a short one.
//!
//! The tests know what more they do; this builds what they try, and tells them by a variable. Called by hand.
//! Invariant: what is tried is the optimised binary, the one that users get.

use anyhow::Context as _;

use crate::{process, test};

/// A trial: what it is called, the test of the laboratory that it is, and what makes that long.
struct Trial {
    name: &'static str,
    test: &'static str,
    variable: &'static str,
    about: &'static str,
}

const TRIALS: &[Trial] = &[
    Trial {
        name: "far",
        test: "far",
        variable: "LEVADA_FAR_LONG",
        about: "streams that begin over round trips of 600 ms and of a second, ten times each",
    },
    Trial {
        name: "hostile",
        test: "hostile",
        variable: "LEVADA_HOSTILE_LONG",
        about: "a neighbour that lies for two minutes",
    },
    Trial {
        name: "kills",
        test: "kills",
        variable: "LEVADA_KILLS_LONG",
        about: "ten kills of a parent with losses and without, held to stalls, and how late each is",
    },
    Trial {
        name: "narrow",
        test: "narrow",
        variable: "LEVADA_NARROW_LONG",
        about: "large pictures over four paths with short queues, a minute each",
    },
    Trial {
        name: "rtsp-matrix",
        test: "rtsp_matrix",
        variable: "LEVADA_MATRIX_LONG",
        about: "every way to publish, read in every way, near and two hops away",
    },
    Trial {
        name: "uneven",
        test: "uneven",
        variable: "LEVADA_UNEVEN_LONG",
        about: "a minute of a stream over 16 ms of jitter, and twenty cold joins over a worse way",
    },
    Trial {
        name: "rtsp-hostile",
        test: "rtsp_hostile",
        variable: "LEVADA_HOSTILE_LONG",
        about: "a viewer among 10,000 RTSP clients that do nothing and some that do what they can",
    },
];

/// Runs the trial that is named. True if it passed.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<bool> {
    let trial = named(arguments)?;
    test::needs::meet()?;
    let levada = test::release_binary()?;
    let mut command = process::cargo();
    command.args(["test", "--package", "levada-lab", "--test", trial.test]);
    command.args(["--", "--nocapture"]);
    command.env("LEVADA_BIN", levada).env(trial.variable, "1");
    process::succeeds(&mut command)
}

fn named(arguments: &[String]) -> anyhow::Result<&'static Trial> {
    let [name] = arguments else {
        anyhow::bail!("name one trial: {}", listed());
    };
    let mut trials = TRIALS.iter();
    let found = trials.find(|trial| trial.name == name);
    found.with_context(|| format!("there is no trial `{name}`, only {}", listed()))
}

fn listed() -> String {
    let trials = TRIALS.iter();
    let lines = trials.map(|trial| format!("`{}` ({})", trial.name, trial.about));
    lines.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn a_trial_is_named_or_those_that_there_are() {
        assert_eq!(
            named(&["rtsp-matrix".to_owned()]).unwrap().test,
            "rtsp_matrix"
        );
        for wrong in [&[][..], &["matrix".to_owned()]] {
            let error = named(wrong).err().unwrap().to_string();
            assert!(error.contains("`rtsp-matrix`"), "{error}");
        }
    }
}
