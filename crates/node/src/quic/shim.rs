//! Makes one socket of the datapath's for quinn.
//!
//! The datapath owns the port: its lanes receive everything, and push what is QUIC into a bounded queue here.
//! What quinn sends goes out by the first lane's socket directly. No MTU discovery: control messages do not need
//! large packets. Called by `driver::datapath` (filling) and by quinn (emptying, sending). Invariant: the worker never
//! waits for quinn; what does not fit is dropped and counted, and QUIC repairs it.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use levada_lane::api::Train;
use levada_ports::sys::Socket;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::time::Sleep;

/// The most bytes that may wait for quinn. Control of a thousand links fits many times.
const WAITING_BYTES_MAX: usize = 4 << 20;
/// The most trains that may wait.
const WAITING_TRAINS_MAX: usize = 4_096;
/// How long a sender waits when the kernel's send buffer is full: the time to send 64 KiB at 500 Mb/s. Registering the
/// socket with tokio instead would wake its driver for every media packet that leaves.
const FULL_WAIT: Duration = Duration::from_millis(1);

/// The socket that quinn sees.
#[derive(Debug)]
pub(crate) struct Shim {
    /// Weak, so that the port is free as soon as the worker has stopped, however long quinn takes to end.
    socket: Weak<Socket>,
    local: SocketAddr,
    foreign: Arc<Foreign>,
}

impl Shim {
    pub(crate) fn new(socket: &Arc<Socket>, foreign: Arc<Foreign>) -> Self {
        Self {
            socket: Arc::downgrade(socket),
            local: socket.local_addr(),
            foreign,
        }
    }
}

/// QUIC that came in and waits for quinn.
#[derive(Debug, Default)]
pub(crate) struct Foreign {
    waiting: Mutex<Waiting>,
    dropped: AtomicU64,
    unsent: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    trains: VecDeque<Train>,
    bytes: usize,
    waker: Option<Waker>,
}

impl Foreign {
    /// Takes a train of QUIC datagrams. Called on the worker's thread.
    pub(crate) fn push(&self, train: Train) {
        let mut waiting = self.waiting();
        let bytes = train.bytes.len();
        let is_full =
            waiting.trains.len() >= WAITING_TRAINS_MAX || waiting.bytes + bytes > WAITING_BYTES_MAX;
        if is_full {
            let datagrams = bytes.div_ceil(train.segment_bytes.max(1));
            let datagrams = u64::try_from(datagrams).unwrap_or(u64::MAX);
            self.dropped.fetch_add(datagrams, Ordering::Relaxed);
            return;
        }
        waiting.bytes += bytes;
        waiting.trains.push_back(train);
        if let Some(waker) = waiting.waker.take() {
            waker.wake();
        }
    }

    /// Datagrams dropped because quinn was behind.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Sends that the kernel refused for another reason than a full buffer.
    pub(crate) fn unsent(&self) -> u64 {
        self.unsent.load(Ordering::Relaxed)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting
            .lock()
            .expect("no code that can panic runs under this lock")
    }
}

impl Waiting {
    /// Moves as many whole datagrams of the first train into `buffer` as fit; the rest stays. A datagram larger than
    /// the buffer is none of QUIC's here, and goes.
    fn take(&mut self, buffer: &mut [u8]) -> Option<RecvMeta> {
        loop {
            let train = self.trains.front_mut()?;
            let stride = train.segment_bytes.max(1);
            let fits = if train.bytes.len() <= buffer.len() {
                train.bytes.len()
            } else {
                buffer.len() / stride * stride
            };
            let taken = train.bytes.split_to(if fits == 0 {
                stride.min(train.bytes.len())
            } else {
                fits
            });
            self.bytes -= taken.len();
            let (addr, dst_ip) = (train.from, train.to);
            if train.bytes.is_empty() {
                self.trains.pop_front();
            }
            if fits == 0 {
                continue;
            }
            buffer[..taken.len()].copy_from_slice(&taken);
            return Some(RecvMeta {
                addr,
                len: taken.len(),
                stride,
                ecn: None,
                dst_ip,
            });
        }
    }
}

impl AsyncUdpSocket for Shim {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable { wait: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Some(socket) = self.socket.upgrade() else {
            // The node ends; its peers find out by silence.
            return Ok(());
        };
        let sent = socket.try_send(&levada_lane::Datagrams {
            source: transmit.src_ip.map(|source| source.to_canonical()),
            to: canonical(transmit.destination),
            bytes: Bytes::copy_from_slice(transmit.contents),
            segment_bytes: transmit.segment_size.unwrap_or(transmit.contents.len()),
        });
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            Err(error) => {
                // quinn would end the connection for an error that may pass: no route at the moment, a filter. To
                // QUIC it is a loss like any other.
                self.foreign.unsent.fetch_add(1, Ordering::Relaxed);
                tracing::trace!(%error, "QUIC not sent");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let is_ipv6 = self.local.is_ipv6();
        let mut waiting = self.foreign.waiting();
        let mut filled = 0;
        for (buffer, meta) in buffers.iter_mut().zip(metas) {
            let Some(mut taken) = waiting.take(buffer) else {
                break;
            };
            taken.addr = shown(taken.addr, is_ipv6);
            taken.dst_ip = taken
                .dst_ip
                .map(|ip| shown(SocketAddr::new(ip, 0), is_ipv6).ip());
            *meta = taken;
            filled += 1;
        }
        if filled == 0 {
            waiting.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(filled))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn max_receive_segments(&self) -> usize {
        // Room for the trains that GRO makes of a handshake; longer ones are taken in parts.
        16
    }

    fn may_fragment(&self) -> bool {
        true
    }
}

/// On a socket of both families quinn compares addresses as the socket shows them: IPv4 inside IPv6.
fn shown(address: SocketAddr, is_ipv6: bool) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if is_ipv6 => {
            let mapped: Ipv6Addr = v4.ip().to_ipv6_mapped();
            SocketAddr::new(mapped.into(), v4.port())
        }
        other => other,
    }
}

/// The datapath has addresses as they are.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(v4.into(), v6.port()),
            // Kept whole: a link-local address has a scope.
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}

/// Waits a little after a full buffer. See [`FULL_WAIT`].
#[derive(Debug)]
struct Writable {
    wait: Option<Pin<Box<Sleep>>>,
}

impl UdpPoller for Writable {
    fn poll_writable(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wait = self
            .wait
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(FULL_WAIT)));
        match wait.as_mut().poll(context) {
            Poll::Ready(()) => {
                self.wait = None;
                Poll::Ready(Ok(()))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn train(bytes: usize, segment_bytes: usize) -> Train {
        Train {
            to: None,
            from: "127.0.0.1:9".parse().unwrap(),
            bytes: Bytes::from(vec![0x40; bytes]),
            segment_bytes,
        }
    }

    #[test]
    fn a_train_longer_than_the_buffer_is_taken_in_whole_datagrams() {
        let foreign = Foreign::default();
        foreign.push(train(250, 100));
        let mut buffer = [0; 230];
        let mut waiting = foreign.waiting();

        let lengths: Vec<usize> = std::iter::from_fn(|| waiting.take(&mut buffer))
            .map(|meta| meta.len)
            .collect();

        assert_eq!(lengths, [200, 50]);
        assert_eq!(waiting.bytes, 0);
    }

    #[test]
    fn a_datagram_that_never_fits_does_not_block_the_next() {
        let foreign = Foreign::default();
        foreign.push(train(300, 300));
        foreign.push(train(10, 10));
        let mut buffer = [0; 100];

        let meta = foreign.waiting().take(&mut buffer).unwrap();

        assert_eq!(meta.len, 10);
    }

    #[test]
    fn what_does_not_fit_the_queue_is_dropped_and_counted() {
        let foreign = Foreign::default();
        for _ in 0..WAITING_TRAINS_MAX {
            foreign.push(train(1, 1));
        }

        foreign.push(train(30, 10));

        assert_eq!(foreign.dropped(), 3);
        assert_eq!(foreign.waiting().trains.len(), WAITING_TRAINS_MAX);
    }

    #[test]
    fn too_many_bytes_are_dropped_and_counted() {
        let foreign = Foreign::default();
        while foreign.dropped() == 0 {
            foreign.push(train(60_000, 1_200));
        }

        assert_eq!(foreign.dropped(), 50);
        assert!(foreign.waiting().bytes <= WAITING_BYTES_MAX);
    }

    #[test]
    fn an_ipv4_address_reads_the_same_after_a_way_through_quinn() {
        let v4: SocketAddr = "10.0.0.1:7".parse().unwrap();

        assert_eq!(shown(v4, false), v4);
        assert_eq!(shown(v4, true).to_string(), "[::ffff:10.0.0.1]:7");
        assert_eq!(canonical(shown(v4, true)), v4);
    }
}
