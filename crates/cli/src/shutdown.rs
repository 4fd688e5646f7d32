//! The request to end: Ctrl-C, or a signal from whoever started us.
//!
//! Not the ending itself: each command ends in its own way (streams are taken back, neighbours told). Made once by
//! `main`. Invariant: the first signal asks, the second ends the process at once.

use tokio::sync::watch;

/// The exit code of a process that a user interrupted.
const INTERRUPTED: i32 = 130;

/// Tells whether the user wants the command to end. Clones tell the same.
#[derive(Clone, Debug)]
pub(crate) struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// Listens to the signals from now on; to SIGHUP only if it does not mean something else. Must be called on a tokio
    /// runtime.
    pub(crate) fn listen(hang_up_ends: bool) -> std::io::Result<Self> {
        let (asked, receiver) = watch::channel(false);
        let mut signals = Signals::new(hang_up_ends)?;
        tokio::spawn(async move {
            signals.next().await;
            let _ = asked.send(true);
            signals.next().await;
            std::process::exit(INTERRUPTED);
        });
        Ok(Self(receiver))
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
