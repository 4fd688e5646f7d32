//! The request to end: Ctrl-C, a signal from whoever started us, or the end of what they hold open.
//!
//! Not the ending itself: each command ends in its own way (streams are taken back, neighbours told). Made once by
//! `main`. Invariant: the first signal asks, the second ends the process at once.

use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;

/// The exit code of a process that a user interrupted.
const INTERRUPTED: i32 = 130;

/// Tells whether the user wants the command to end. Clones tell the same.
#[derive(Clone, Debug)]
pub(crate) struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// Listens to the signals from now on; to SIGHUP only if it does not mean something else. `while_stdin` ends the
    /// command with standard input, too. Must be called on a tokio runtime.
    pub(crate) fn listen(hang_up_ends: bool, while_stdin: bool) -> std::io::Result<Self> {
        let (asked, receiver) = watch::channel(false);
        let mut signals = Signals::new(hang_up_ends)?;
        tokio::spawn(async move {
            tokio::select! {
                () = signals.next() => {}
                () = input_ended(), if while_stdin => {}
            }
            let _ = asked.send(true);
            signals.next().await;
            std::process::exit(INTERRUPTED);
        });
        Ok(Self(receiver))
    }

    /// One that whoever holds the sender asks for.
    #[cfg(test)]
    pub(crate) fn by_hand() -> (watch::Sender<bool>, Self) {
        let (asked, receiver) = watch::channel(false);
        (asked, Self(receiver))
    }

    /// Whether the user wants the command to end already.
    pub(crate) fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the user wants the command to end.
    pub(crate) async fn wait(&mut self) {
        // Never ends by an error: the task that holds the sender lives as long as the process.
        let _ = self.0.wait_for(|asked| *asked).await;
    }
}

/// Waits until whoever holds the other end of standard input closes it, or is gone.
async fn input_ended() {
    let (mut input, mut bytes) = (tokio::io::stdin(), [0; 64]);
    while matches!(input.read(&mut bytes).await, Ok(1..)) {}
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    fn new(hang_up_ends: bool) -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let hang_up = || signal(SignalKind::hangup());
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: hang_up_ends.then(hang_up).transpose()?,
        })
    }

    async fn next(&mut self) {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hang_up => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new(_: bool) -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
