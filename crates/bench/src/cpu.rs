//! What the processor was used for: the time that threads of this process ran, and which machine it is.
//!
//! Not time that passed. Called by whatever is measured per CPU-second. Invariant: where the system does not tell, it
//! is an error, never a zero.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

/// The threads of this process (proc(5)).
const TASKS: &str = "/proc/self/task";

/// How long threads ran and waited to run, each by its number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(BTreeMap<u64, Scheduled>);

/// What one thread was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Scheduled {
    ran: Duration,
    /// It could have run, and others had the processors.
    waited: Duration,
}

/// What threads were given meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    /// How long all ran together.
    pub(crate) ran: Duration,
    /// How long the one ran that ran longest.
    pub(crate) longest: Duration,
    /// How long they could have run while others had the processors.
    pub(crate) waited: Duration,
}

impl Times {
    /// How long all threads ran until now whose name begins like that. Threads that ended are not there: ask before.
    ///
    /// The kernel brings a running thread's time up to date at its tick (1 to 10 ms), a sleeping one's when it fell
    /// asleep.
    pub(crate) fn of(name: &str) -> anyhow::Result<Self> {
        let tasks = fs::read_dir(TASKS)
            .with_context(|| format!("cannot read {TASKS}: CPU time by thread needs Linux"))?;
        let mut times = BTreeMap::new();
        for task in tasks {
            let task = task.context("cannot list the threads of this process")?;
            let dir = task.path();
            // A thread that ends meanwhile is no error.
            let Ok(comm) = fs::read_to_string(dir.join("comm")) else {
                continue;
            };
            if comm.starts_with(name) {
                let number = task.file_name().to_string_lossy().parse();
                let text = fs::read_to_string(dir.join("schedstat"))
                    .context("cannot read the CPU time of a thread: is /proc complete?")?;
                let scheduled = parse_schedstat(&text)
                    .with_context(|| format!("`{}` is no thread accounting", text.trim_end()))?;
                times.insert(number.context("a thread without a number")?, scheduled);
            }
        }
        anyhow::ensure!(
            !times.is_empty(),
            "no thread `{name}` runs that could be measured"
        );
        Ok(Self(times))
    }

    /// What they were given since then.
    pub(crate) fn since(&self, then: &Self) -> Used {
        let mut used = Used::default();
        for (number, now) in &self.0 {
            let then = then.0.get(number).copied().unwrap_or_default();
            let ran = now.ran.saturating_sub(then.ran);
            used.ran += ran;
            used.longest = used.longest.max(ran);
            used.waited += now.waited.saturating_sub(then.waited);
        }
        used
    }
}

/// The first two numbers of `schedstat` (Documentation/scheduler/sched-stats.rst): nanoseconds on a processor, and in
/// line for one.
fn parse_schedstat(text: &str) -> Option<Scheduled> {
    let mut fields = text.split_whitespace();
    let mut next = || Some(Duration::from_nanos(fields.next()?.parse().ok()?));
    Some(Scheduled {
        ran: next()?,
        waited: next()?,
    })
}

/// Processor time in the kernel's ticks, since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    busy: u64,
    all: u64,
    /// This process, threads that ended included.
    own: u64,
}

impl Ticks {
    fn now() -> Option<Self> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let own = fs::read_to_string("/proc/self/stat").ok()?;
        let (busy, all) = parse_stat(&stat)?;
        let own = parse_own(&own)?;
        Some(Self { busy, all, own })
    }

    /// Of all processor time since then, the share that neither this process nor nobody took.
    fn others_since(self, then: Self) -> Option<f64> {
        let (busy, all) = (self.busy - then.busy, self.all - then.all);
        let others = busy.saturating_sub(self.own - then.own);
        (all > 0).then(|| others as f64 / all as f64)
    }
}

/// Busy and all ticks of the line `cpu`: user, nice, system, idle, iowait, irq, softirq, steal (proc(5)).
fn parse_stat(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = line
        .split_whitespace()
        .map_while(|f| f.parse().ok())
        .collect();
    let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = fields[..] else {
        return None;
    };
    let busy = user + nice + system + irq + softirq + steal;
    Some((busy, busy + idle + iowait))
}

/// The 14th and 15th field: user and system. The name, which may hold anything, ends with the last parenthesis.
fn parse_own(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// On what something is measured.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// As the processor calls itself, if the system tells.
    pub cpu: Option<String>,
    pub processors: usize,
    pub kernel: Option<String>,
    /// What other programs took of all processors meanwhile: the more, the less the figures are worth.
    pub others: Option<f64>,
    #[serde(skip)]
    began: Option<Ticks>,
}

impl Machine {
    /// Looks at the machine before something is measured.
    pub fn begin() -> Self {
        let file = |path: &str| fs::read_to_string(path).ok();
        let cpu = file("/proc/cpuinfo").and_then(|text| parse_model(&text));
        Self {
            cpu,
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            kernel: file("/proc/sys/kernel/osrelease").map(|text| text.trim_end().to_owned()),
            others: None,
            began: Ticks::now(),
        }
    }

    /// Looks at it again after that.
    pub fn end(mut self) -> Self {
        let ticks = Ticks::now().zip(self.began);
        self.others = ticks.and_then(|(now, then)| now.others_since(then));
        self
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unknown = || "an unknown".to_owned();
        write!(
            f,
            "{} processors ({}), kernel {}",
            self.processors,
            self.cpu.clone().unwrap_or_else(unknown),
            self.kernel.clone().unwrap_or_else(unknown),
        )?;
        match self.others {
            Some(others) => write!(
                f,
                "; other programs took {:.0}% of their time",
                others * 100.0
            ),
            None => Ok(()),
        }
    }
}

fn parse_model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        let cpuinfo = "processor\t: 0\nmodel name\t: AMD EPYC 9354\nflags\t: fpu\n";

        assert_eq!(parse_model(cpuinfo).as_deref(), Some("AMD EPYC 9354"));
        let nanos = |ran, waited| Scheduled {
            ran: Duration::from_nanos(ran),
            waited: Duration::from_nanos(waited),
        };
        assert_eq!(parse_schedstat("383873 92 1\n"), Some(nanos(383_873, 92)));
        assert_eq!(
            parse_stat("cpu  10 1 5 80 4 2 3 1 0 0\ncpu0 1 2\n"),
            Some((22, 106))
        );
        let own = "7 (a ) b) S 1 7 7 0 -1 4 10 0 0 0 30 12 0 0 20 0 3";
        assert_eq!(parse_own(own), Some(42));
        assert_eq!(parse_schedstat("none"), None);
        assert_eq!(parse_model("Features: neon\n"), None);
    }

    #[test]
    fn others_are_who_was_busy_and_not_us() {
        let ticks = |busy, all, own| Ticks { busy, all, own };

        let others = ticks(150, 400, 70).others_since(ticks(50, 200, 10));
        let nobody = ticks(5, 5, 0).others_since(ticks(5, 5, 0));

        assert_eq!((others, nobody), (Some(0.2), None));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_thread_that_works_uses_time_and_one_that_is_not_there_is_an_error() -> anyhow::Result<()> {
        let (begin, begun) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("cpu-test".into());
        let thread = thread.spawn(move || {
            let sum = (0..3_000_000_u64).fold(0, |sum, n| sum ^ std::hint::black_box(n));
            let _ = begin.send(sum);
            let _ = ended.recv();
        })?;
        begun.recv()?;

        let used = Times::of("cpu-test")?.since(&Times::default());
        let missing = Times::of("cpu-nobody");

        drop(end);
        assert!(thread.join().is_ok());
        assert!(
            used.ran > Duration::ZERO && used.ran == used.longest,
            "{used:?}"
        );
        assert!(missing.is_err());
        Ok(())
    }
}
