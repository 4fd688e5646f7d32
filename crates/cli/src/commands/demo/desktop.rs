//! Opens a page in the user's browser, where there is a desktop.
//!
//! Called by `demo`. Invariant: without a terminal and a desktop nothing is opened, and nothing that goes wrong here is
//! an error: the address is printed anyway.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::process::Stdio;

use tokio::process::Command;

/// Opens `/ui/` at that address.
pub(super) fn open(http: Option<SocketAddr>) {
    let Some(http) = http.filter(|_| std::io::stdout().is_terminal() && is_there()) else {
        return;
    };
    let opener = if cfg!(target_os = "macos") {
        "open"
    } else {
        "xdg-open"
    };
    let mut command = Command::new(opener);
    command.arg(format!("http://{http}/ui/"));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // It may stay for as long as the browser does. Without such a program the user opens the page.
    drop(command.spawn());
}

fn is_there() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    cfg!(target_os = "macos") || is_set("DISPLAY") || is_set("WAYLAND_DISPLAY")
}
