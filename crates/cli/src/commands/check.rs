//! `levada check`: whether a node can run here, and how fast, from what was just tried.
//!
//! ```text
//! port      bound, and let go again
//! gso, gro  a run of datagrams sent to this machine itself, and how it arrived
//! lanes     two sockets opened on one port, with a program that steers
//! buffers   asked for, and read back
//! ```
//!
//! Not a guess from versions. Invariant: nothing is said that was not tried in this call; the exit code is not 0 only
//! when something keeps a node from running.

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use levada_lane::Datagrams;
use levada_ports::sys::{ProbeSettings, ProbeSocket};
use levada_ports::{BindError, Feature, Socket, SocketSet, SocketSettings};
use serde::Serialize;

use crate::logging::{self, Level};
use crate::table::{Align, Table};
use crate::{access, home, say};

/// Where `levada run` listens unless it is told otherwise.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED), 7800);
/// What is sent to see how it arrives: a few packets of the usual size.
const RUN_PACKETS: usize = 4;
const PACKET_BYTES: usize = 1_232;
/// Longer than this machine takes to hand itself a datagram.
const PATIENCE: Duration = Duration::from_secs(2);

/// What can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The UDP address that a node shall listen on
    #[arg(long, value_name = "IP:PORT", default_value_t = LISTEN, value_parser = listen)]
    listen: SocketAddr,
    /// Print JSON: an array in one line
    #[arg(long)]
    json: bool,
}

/// Reads an address as `levada run` does.
fn listen(text: &str) -> Result<SocketAddr, String> {
    levada::config::listen(text).map_err(|error| error.to_string())
}

/// How good it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Good,
    /// It runs, with more work for the same packets, or with losses under load.
    Slower,
    /// Nothing runs.
    Stops,
}

/// What one trial found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    says: String,
    /// What to do about it.
    cure: Option<String>,
}

impl Finding {
    const fn good(check: &'static str, says: String) -> Self {
        Self {
            check,
            state: State::Good,
            says,
            cure: None,
        }
    }

    const fn slower(check: &'static str, says: String, cure: Option<String>) -> Self {
        Self {
            check,
            state: State::Slower,
            says,
            cure,
        }
    }

    const fn stops(check: &'static str, says: String, cure: String) -> Self {
        Self {
            check,
            state: State::Stops,
            says,
            cure: Some(cure),
        }
    }
}

pub(crate) async fn execute(args: Args, debug: bool) -> anyhow::Result<ExitCode> {
    logging::start(Level::Warn, debug)?;
    let mut findings = vec![port(args.listen).await];
    match probe(SocketSettings::default()) {
        Ok(found) => findings.extend(found),
        Err(error) => findings.push(Finding::stops(
            "sockets",
            format!("cannot send to this machine itself: {error}"),
            "let UDP pass on the loopback interface: look at `ip addr show lo` and at the firewall"
                .to_owned(),
        )),
    }
    findings.push(lanes());
    if args.json {
        say::result(serde_json::to_string(&findings)?)?;
    } else {
        say::print(text(&findings))?;
    }
    let stops = findings.iter().any(|found| found.state == State::Stops);
    Ok(ExitCode::from(u8::from(stops)))
}

fn text(findings: &[Finding]) -> String {
    let mut table = Table::new(&[
        ("CHECK", Align::Left),
        ("STATE", Align::Left),
        ("FOUND", Align::Left),
    ]);
    for found in findings {
        let state = match found.state {
            State::Good => "good",
            State::Slower => "slower",
            State::Stops => "STOPS",
        };
        table.row([found.check.to_owned(), state.to_owned(), found.says.clone()]);
    }
    let mut text = table.to_string();
    for found in findings {
        if let Some(cure) = &found.cure {
            let _ = write!(text, "\n{}: {cure}\n", found.check);
        }
    }
    text
}

/// Binds the port as a node does, and lets it go.
async fn port(listen: SocketAddr) -> Finding {
    match Socket::bind(listen, &SocketSettings::default()) {
        Ok(_) => Finding::good("port", format!("UDP {listen} can be bound")),
        Err(error) => match own_node(&error).await {
            Some(state) => Finding::good(
                "port",
                format!("UDP {listen} is bound by the node that runs in {state}"),
            ),
            None => unbindable(&error),
        },
    }
}

/// The state directory of this user's node, if it is what has the port.
async fn own_node(error: &BindError) -> Option<String> {
    if !error.is_in_use() {
        return None;
    }
    let view = access::view(&home::node_dir()).await.ok()?;
    let is_it = view.node.listen.port() == error.address.port();
    is_it.then(|| view.node.state_dir.display().to_string())
}

fn unbindable(error: &BindError) -> Finding {
    let port = error.address.port();
    let cure = match error.source.kind() {
        io::ErrorKind::AddrInUse => format!(
            "find out who has it with `ss -lunp 'sport = :{port}'` and end that, or run with `--listen [::]:PORT` and \
             another port"
        ),
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 are for root: choose another with `--listen [::]:PORT`".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "no interface has that address: choose one of `ip addr`, or `[::]` for all".to_owned()
        }
        _ => "choose another address with `--listen IP:PORT`".to_owned(),
    };
    Finding::stops("port", error.to_string(), cure)
}

/// Sends a run to this machine itself, by a socket like a lane's, and looks at how it arrives.
fn probe(settings: SocketSettings) -> anyhow::Result<Vec<Finding>> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let sender = Socket::bind(any, &settings)?;
    let receiver = ProbeSocket::bind(
        any,
        &ProbeSettings {
            gro: true,
            patience: Some(PATIENCE),
            ..ProbeSettings::default()
        },
    )?;
    sender.try_send(&Datagrams {
        source: None,
        to: receiver.local_addr(),
        bytes: Bytes::from(vec![0; RUN_PACKETS * PACKET_BYTES]),
        segment_bytes: PACKET_BYTES,
    })?;
    let (mut bytes, mut longest) = (0, 0);
    while bytes < RUN_PACKETS * PACKET_BYTES {
        let arrival = receiver.receive(&mut [0; 64])?;
        bytes += arrival.bytes;
        longest = longest.max(arrival.bytes.div_ceil(arrival.segment_bytes));
    }
    let buffers = sender.buffers();
    Ok(vec![
        gso(sender.gso_towards(receiver.local_addr())),
        gro(sender.gro(), longest),
        buffer(Buffer::Receive, settings.buffers.receive, buffers.receive),
        buffer(Buffer::Send, settings.buffers.send, buffers.send),
    ])
}

fn gso(feature: Feature) -> Finding {
    match feature {
        Feature::On => Finding::good(
            "gso",
            format!("{RUN_PACKETS} packets left in one system call"),
        ),
        Feature::Off(why) => Finding::slower(
            "gso",
            format!("each packet is sent alone: {why}"),
            Some(
                "Linux 4.18 or later sends whole bursts at a fifth of the cost, unless a policy of IPsec or a driver \
                 forbids it"
                    .to_owned(),
            ),
        ),
    }
}

fn gro(feature: Feature, longest: usize) -> Finding {
    match feature {
        Feature::On if longest > 1 => Finding::good(
            "gro",
            format!("{longest} packets arrived in one system call"),
        ),
        Feature::On => Finding::slower(
            "gro",
            "the system has it, and nothing arrived joined: where packets leave alone there is nothing to \
             join"
                .to_owned(),
            None,
        ),
        Feature::Off(why) => Finding::slower(
            "gro",
            format!("each packet is received alone: {why}"),
            Some("Linux 5.0 or later receives whole bursts".to_owned()),
        ),
    }
}

/// Which buffer of a socket.
#[derive(Clone, Copy, Debug)]
enum Buffer {
    Receive,
    Send,
}

impl Buffer {
    const fn check(self) -> &'static str {
        match self {
            Self::Receive => "receive buffer",
            Self::Send => "send buffer",
        }
    }

    /// The limit of the kernel (Documentation/admin-guide/sysctl/net.rst).
    const fn sysctl(self) -> &'static str {
        match self {
            Self::Receive => "net.core.rmem_max",
            Self::Send => "net.core.wmem_max",
        }
    }
}

fn buffer(which: Buffer, wanted: usize, given: usize) -> Finding {
    let (given_kib, wanted_kib) = (given >> 10, wanted >> 10);
    if given >= wanted {
        let says = format!("{given_kib} KiB, as asked for");
        return Finding::good(which.check(), says);
    }
    let says = format!("{given_kib} KiB of {wanted_kib}: packets are lost when many come at once");
    let cure = cfg!(target_os = "linux").then(|| {
        let name = which.sysctl();
        format!(
            "sudo sysctl -w {name}={wanted}\n  to keep it: echo '{name} = {wanted}' | sudo tee -a \
             /etc/sysctl.d/90-levada.conf"
        )
    });
    Finding::slower(which.check(), says, cure)
}

/// Opens two sockets on one port, as two lanes do.
fn lanes() -> Finding {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    match SocketSet::bind(any, &SocketSettings::default(), 2).map(|set| set.steering()) {
        Ok(Feature::On) => Finding::good(
            "lanes",
            "two sockets share a port, and the kernel takes the program that steers".to_owned(),
        ),
        Ok(Feature::Off(why)) => {
            Finding::slower("lanes", format!("one lane receives for all: {why}"), None)
        }
        Err(error) => Finding::slower("lanes", error.to_string(), None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_small_buffer_names_the_line_that_raises_it() {
        let small = buffer(Buffer::Receive, 4 << 20, 212_992);
        let large = buffer(Buffer::Send, 4 << 20, 4 << 20);

        assert_eq!(small.state, State::Slower);
        assert!(small.says.starts_with("208 KiB of 4096"), "{small:?}");
        if cfg!(target_os = "linux") {
            let cure = small.cure.unwrap();
            assert!(
                cure.contains("sysctl -w net.core.rmem_max=4194304"),
                "{cure}"
            );
        }
        assert_eq!((large.state, large.cure), (State::Good, None));
    }

    #[tokio::test]
    async fn a_port_that_another_has_stops_a_node_and_says_how_to_find_it() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let other = ProbeSocket::bind(any, &ProbeSettings::default()).unwrap();
        let taken = other.local_addr();

        let error = Socket::bind(taken, &SocketSettings::default()).unwrap_err();
        let found = unbindable(&error);
        drop(other);
        let free = port(taken).await;

        assert_eq!((found.state, free.state), (State::Stops, State::Good));
        let cure = found.cure.unwrap();
        assert!(
            cure.contains(&format!("sport = :{}", taken.port())),
            "{cure}"
        );
    }

    #[test]
    fn what_is_off_is_slower_and_says_why() {
        let off = Feature::Off("the system has no UDP_SEGMENT");

        assert!(gso(off).says.contains("no UDP_SEGMENT"));
        assert_eq!(gro(off, 1).state, State::Slower);
        assert_eq!(gro(Feature::On, 1).state, State::Slower);
        assert_eq!(gro(Feature::On, 4).state, State::Good);
    }

    #[test]
    fn this_machine_is_found_out_about() {
        let found = probe(SocketSettings::default()).unwrap();

        let names: Vec<_> = found.iter().map(|finding| finding.check).collect();
        assert_eq!(names, ["gso", "gro", "receive buffer", "send buffer"]);
        assert!(text(&found).lines().next().unwrap().starts_with("CHECK"));
    }

    #[test]
    fn where_packets_leave_and_arrive_alone_it_is_found_to_be_slower_and_nothing_stops() {
        let settings = SocketSettings {
            gso: false,
            gro: false,
            ..SocketSettings::default()
        };

        let found = probe(settings).unwrap();

        assert_eq!([found[0].state, found[1].state], [State::Slower; 2]);
        assert!(found.iter().all(|found| found.state != State::Stops));
        assert!(
            text(&found).contains("each packet is sent alone"),
            "{found:?}"
        );
    }
}
