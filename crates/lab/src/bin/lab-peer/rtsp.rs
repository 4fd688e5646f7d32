//! RTSP clients that no server would like: a crowd that does nothing, and a few that do what they can.
//!
//! Not a player. Started by the laboratory's tests, in a namespace that they made. Invariant: it sends to the address
//! that it is given and to no other, and says on standard output how far it is.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "it tells the test how far it is, and being slow is what it is for"
)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the crowd says that it is still there.
const ALIVE_EVERY: Duration = Duration::from_secs(15);
/// Between two bytes of one who never gets to the end.
const BYTE_EVERY: Duration = Duration::from_millis(100);
/// Of each kind of those that do what they can.
const EACH: usize = 8;
/// What one who does not end writes at most: a gigabyte.
const ENDLESS_BYTES: usize = 1 << 30;

/// As many clients as that, set up to play and not playing. Says `ready COUNT` once they are there, and how many were
/// refused.
pub(crate) fn crowd(address: &str, name: &str, count: usize) -> anyhow::Result<()> {
    let address: SocketAddr = address.parse().context("an address")?;
    let (mut clients, mut refused) = (Vec::new(), 0);
    while clients.len() + refused < count {
        match set_up(address, name) {
            Ok(client) => clients.push(client),
            Err(_) => refused += 1,
        }
    }
    println!("ready {} refused {refused}", clients.len());
    loop {
        thread::sleep(ALIVE_EVERY);
        for client in &mut clients {
            // Answers are small enough to lie in the socket.
            let _ = client.write_all(b"OPTIONS * RTSP/1.0\r\nCSeq: 9\r\n\r\n");
        }
    }
}

/// Some of each kind, over and over. Says `round NUMBER` after each.
pub(crate) fn hostile(address: &str, name: &str) -> anyhow::Result<()> {
    let address: SocketAddr = address.parse().context("an address")?;
    for _ in 0..EACH {
        // Those that hold on: one says nothing, one never gets to the end, one stops within a picture.
        keep(address, |stream| {
            let _ = stream.read(&mut [0]);
        });
        keep(address, |stream| {
            let head = b"OPTIONS * RTSP/1.0\r\nX: "
                .iter()
                .chain(std::iter::repeat(&b'a'));
            for byte in head {
                if stream.write_all(&[*byte]).is_err() {
                    return;
                }
                thread::sleep(BYTE_EVERY);
            }
        });
        let name = name.to_owned();
        keep(address, move |_| {
            let stopped = set_up(address, &name).and_then(|mut stream| {
                let play = format!("PLAY rtsp://h/{name} RTSP/1.0\r\nCSeq: 3\r\n\r\n");
                stream.write_all(play.as_bytes())?;
                stream.read_exact(&mut [0; 5_000])?;
                thread::sleep(PATIENCE);
                Ok(())
            });
            drop(stopped);
        });
    }
    let begins = [
        ("X: ", "a"),     // a header of a gigabyte
        ("", "a: b\r\n"), // a million lines, and more
        ("", "\0\u{1}$$$$"),
    ];
    for round in 1_u64.. {
        for (first, more) in begins {
            let mut stream = TcpStream::connect(address)?;
            let taken = write_endlessly(&mut stream, first, more);
            ensure!(taken < ENDLESS_BYTES, "the server takes a gigabyte");
        }
        println!("round {round}");
    }
    Ok(())
}

/// Opens connections for ever, one after the other, and does that with each.
fn keep(address: SocketAddr, what: impl Fn(&mut TcpStream) + Send + 'static) {
    thread::spawn(move || {
        loop {
            match TcpStream::connect(address) {
                Ok(mut stream) => what(&mut stream),
                Err(_) => thread::sleep(BYTE_EVERY),
            }
        }
    });
}

/// How much was written before the server closed.
fn write_endlessly(stream: &mut TcpStream, first: &str, more: &str) -> usize {
    let head = format!("OPTIONS * RTSP/1.0\r\n{first}");
    let chunk = more.repeat((64 << 10) / more.len());
    let mut taken = 0;
    if stream.write_all(head.as_bytes()).is_err() {
        return taken;
    }
    while taken < ENDLESS_BYTES {
        match stream.write(chunk.as_bytes()) {
            Ok(bytes @ 1..) => taken += bytes,
            _ => return taken,
        }
    }
    taken
}

/// A client with one track set up by TCP.
fn set_up(address: SocketAddr, name: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!(
        "SETUP rtsp://h/{name}/trackID=1 RTSP/1.0\r\nCSeq: 1\r\n\
         Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        answer.extend(byte);
    }
    ensure!(answer.starts_with(b"RTSP/1.0 200"), "it is refused");
    Ok(stream)
}
