//! What the laboratory puts on hosts beside `levada`: a plain sender, and a stranger.
//!
//! ```text
//! lab-peer send HOST:PORT BYTE COUNT SIZE   COUNT datagrams of SIZE bytes that begin with BYTE (hex)
//! lab-peer stranger COUNT                   hears media, then forges and replays COUNT times, a millisecond apart
//! lab-peer hub ADDRESS:PORT MEMBER...         sends a stream to a multicast channel
//! lab-peer member ADDRESS:PORT HUB PLACE      plays it, as the member at that place of the hub's list
//! lab-peer hostile ADDRESS:PORT STATE NEIGHBOUR...  a node that lies to its neighbours in all ways it has
//! lab-peer way SEED IMPAIRMENT                forwards between its LANs as such a path would, an `Impairment` in JSON
//! lab-peer stamp FILE                         writes down what comes to its standard input, and when
//! lab-peer television ADDRESS:PORT SECONDS    says what a television would find wrong with what comes there
//! ```
//!
//! Not a node: a hub and its members have a datapath and keys that all know, the others know the first bytes of
//! datagrams and no key. Started by tests on hosts of theirs. Invariant: it sends to addresses that it was given or
//! heard, and ends by itself, but for a way, which the test ends.

#![forbid(unsafe_code)]

use std::net::UdpSocket;

use anyhow::{Context as _, bail};

#[cfg(target_os = "linux")]
mod datagram;
#[cfg(target_os = "linux")]
mod hostile;
#[cfg(target_os = "linux")]
mod multicast;
mod rtsp;
mod stamp;
#[cfg(target_os = "linux")]
mod stranger;
#[cfg(target_os = "linux")]
mod television;
#[cfg(target_os = "linux")]
mod way;

const USAGE: &str = "usage: lab-peer send HOST:PORT BYTE COUNT SIZE | lab-peer stranger COUNT | \
    lab-peer hub ADDRESS:PORT MEMBER... | lab-peer member ADDRESS:PORT HUB PLACE | lab-peer way SEED IMPAIRMENT | \
    lab-peer stamp FILE | lab-peer television ADDRESS:PORT SECONDS | \
    lab-peer hostile ADDRESS:PORT STATE NEIGHBOUR... | \
    lab-peer rtsp-crowd ADDRESS:PORT NAME COUNT | lab-peer rtsp-hostile ADDRESS:PORT NAME";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *words {
        ["send", to, first, count, size] => {
            let first = u8::from_str_radix(first, 16).context(USAGE)?;
            send(
                to,
                first,
                count.parse().context(USAGE)?,
                size.parse().context(USAGE)?,
            )
        }
        #[cfg(target_os = "linux")]
        ["stranger", count] => stranger::run(count.parse().context(USAGE)?),
        #[cfg(target_os = "linux")]
        ["hub", address, ref members @ ..] => multicast::hub(address, members),
        #[cfg(target_os = "linux")]
        ["member", address, hub, place] => multicast::member(address, hub, place),
        #[cfg(target_os = "linux")]
        ["way", seed, impairment] => way::run(seed.parse().context(USAGE)?, impairment),
        ["stamp", file] => stamp::run(file),
        #[cfg(target_os = "linux")]
        ["television", address, seconds] => television::watch(
            address.parse().context(USAGE)?,
            seconds.parse().context(USAGE)?,
        ),
        #[cfg(target_os = "linux")]
        ["hostile", listen, state, ref neighbours @ ..] => hostile::run(listen, state, neighbours),
        ["rtsp-crowd", address, name, count] => {
            rtsp::crowd(address, name, count.parse().context(USAGE)?)
        }
        ["rtsp-hostile", address, name] => rtsp::hostile(address, name),
        _ => bail!(USAGE),
    }
}

fn send(to: &str, first: u8, count: usize, size: usize) -> anyhow::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let mut datagram = vec![0; size];
    *datagram.first_mut().context(USAGE)? = first;
    for _ in 0..count {
        // Not connected: nobody has to listen there.
        socket.send_to(&datagram, to)?;
    }
    Ok(())
}
