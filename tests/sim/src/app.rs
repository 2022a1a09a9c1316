//! The applications at both ends: they write streams of bytes that only they can make, and check what they read.
//!
//! Who dials sends a [`Header`] and then `up` bytes; who accepts answers with `down` bytes. Both close their half when
//! they are done. A flow is polled only when it was woken, so a lost wakeup shows as a flow that hangs.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use tailnet_engine::peer::{ConnError, ConnId, Peer};
use tailnet_wire::key::NodePublic;

use crate::clock::Time;

/// What only the holder of one node key knows: the seed of the bytes that it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub u64);

impl Secret {
    /// The bytes of the stream `nonce` from `offset` on.
    pub fn fill(self, nonce: u64, offset: u64, out: &mut [u8]) {
        let (mut at, mut rest) = (offset, out);
        while !rest.is_empty() {
            let word = mix(self.0 ^ nonce.rotate_left(32) ^ (at / 8)).to_le_bytes();
            let bytes = &word[(at % 8) as usize..];
            let (part, after) = rest.split_at_mut(bytes.len().min(rest.len()));
            part.copy_from_slice(&bytes[..part.len()]);
            at += part.len() as u64;
            rest = after;
        }
    }
}

/// SplitMix64's finalizer: neighbours share nothing.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The first bytes of each connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Names the connection; no two share one.
    pub nonce: u64,
    /// Bytes that the dialing side writes after this header.
    pub up: u32,
    /// Bytes that the accepting side writes.
    pub down: u32,
}

impl Header {
    const LEN: usize = 16;

    fn to_bytes(self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..8].copy_from_slice(&self.nonce.to_le_bytes());
        out[8..12].copy_from_slice(&self.up.to_le_bytes());
        out[12..].copy_from_slice(&self.down.to_le_bytes());
        out
    }

    fn from_bytes(raw: &[u8; Self::LEN]) -> Self {
        let [n0, n1, n2, n3, n4, n5, n6, n7, u0, u1, u2, u3, d0, d1, d2, d3] = *raw;
        Self {
            nonce: u64::from_le_bytes([n0, n1, n2, n3, n4, n5, n6, n7]),
            up: u32::from_le_bytes([u0, u1, u2, u3]),
            down: u32::from_le_bytes([d0, d1, d2, d3]),
        }
    }
}

/// Which end of a connection a flow is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// We dialed.
    Dialed,
    /// The peer dialed.
    Accepted,
}

/// How a flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Both sides got everything.
    Complete,
    /// The stack reported this.
    Error(ConnError),
    /// The peer closed before everything had come.
    Short,
}

#[derive(Debug, Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One end of a connection.
#[derive(Debug)]
pub struct Flow {
    /// The peer's node key.
    pub peer: NodePublic,
    /// The connection inside that peer.
    pub conn: ConnId,
    /// Which end we are.
    pub role: Role,
    /// The port that was dialed.
    pub port: u16,
    /// Our end and the peer's, where we accepted it.
    pub ends: Option<(SocketAddr, SocketAddr)>,
    /// When it began.
    pub began: Time,
    /// When it ended.
    pub ended: Time,
    /// How it ended, once it has.
    pub end: Option<End>,
    /// Nothing is written beyond half before then: an idle connection.
    pub pause_until: Time,
    ours: Secret,
    theirs: Secret,
    header: Option<Header>,
    head: Vec<u8>,
    written: u64,
    received: u64,
    shut: bool,
    peer_done: bool,
    readable: Arc<Flag>,
    writable: Arc<Flag>,
}

/// What one poll did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that were delivered to us.
    pub delivered: u64,
    /// Bytes that the stack took.
    pub taken: u64,
}

impl Flow {
    /// The end that dialed.
    pub fn dialed(
        peer: NodePublic,
        conn: ConnId,
        port: u16,
        began: Time,
        secrets: (Secret, Secret),
        header: Header,
    ) -> Self {
        let mut flow = Self::accepted(peer, conn, port, began, secrets);
        flow.role = Role::Dialed;
        flow.header = Some(header);
        flow
    }

    /// The end that accepted. `secrets` are ours and the peer's.
    pub fn accepted(peer: NodePublic, conn: ConnId, port: u16, began: Time, secrets: (Secret, Secret)) -> Self {
        let (ours, theirs) = secrets;
        let woken = || Arc::new(Flag(AtomicBool::new(true)));
        Self {
            peer,
            conn,
            role: Role::Accepted,
            port,
            ends: None,
            began,
            ended: Time::MAX,
            end: None,
            pause_until: Time::ZERO,
            ours,
            theirs,
            header: None,
            head: Vec::new(),
            written: 0,
            received: 0,
            shut: false,
            peer_done: false,
            readable: woken(),
            writable: woken(),
        }
    }

    /// Whether the flow was woken, or has something to do now that its pause is over.
    pub fn is_woken(&self, now: Time) -> bool {
        let pause_over = self.pause_until != Time::ZERO && now >= self.pause_until;
        self.end.is_none()
            && (pause_over || self.readable.0.load(Ordering::Relaxed) || self.writable.0.load(Ordering::Relaxed))
    }

    /// Reads and writes what can be.
    ///
    /// # Errors
    /// What is wrong with the bytes that came: the simulation has found a fault.
    pub fn poll(&mut self, now: Time, peer: &mut Peer) -> Result<Progress, String> {
        if self.pause_until != Time::ZERO && now >= self.pause_until {
            self.pause_until = Time::ZERO;
            self.writable.0.store(true, Ordering::Relaxed);
        }
        let mut progress = Progress::default();
        if self.readable.0.swap(false, Ordering::Relaxed) {
            progress.delivered = self.read(peer)?;
        }
        if self.end.is_none() && self.writable.0.swap(false, Ordering::Relaxed) {
            progress.taken = self.write(now, peer);
        }
        self.settle();
        if self.end.is_some() {
            self.ended = now;
        }
        Ok(progress)
    }

    /// Bytes that were delivered so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Uses the connection as if woken, which must fail once access was withdrawn. Returns how many bytes went through.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    pub fn probe(&mut self, peer: &mut Peer) -> Result<u64, String> {
        let delivered = self.read(peer)?;
        // After the peer's end of stream only a write can tell.
        if self.end.is_none() && self.peer_done {
            match peer.poll_write(self.conn, &mut Context::from_waker(Waker::noop()), &[0]) {
                Poll::Pending => {}
                Poll::Ready(Ok(n)) => return Ok(delivered + n as u64),
                Poll::Ready(Err(error)) => self.end = Some(End::Error(error)),
            }
        }
        Ok(delivered)
    }

    fn read(&mut self, peer: &mut Peer) -> Result<u64, String> {
        let waker = Waker::from(Arc::clone(&self.readable));
        let mut cx = Context::from_waker(&waker);
        let mut buffer = [0; 8 << 10];
        let mut delivered = 0;
        while !self.peer_done && self.end.is_none() {
            match peer.poll_read(self.conn, &mut cx, &mut buffer) {
                Poll::Pending => break,
                Poll::Ready(Err(error)) => self.end = Some(End::Error(error)),
                Poll::Ready(Ok(0)) => self.peer_done = true,
                Poll::Ready(Ok(n)) => {
                    delivered += n as u64;
                    self.take(&buffer[..n])?;
                }
            }
        }
        Ok(delivered)
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        if self.header.is_none() {
            let missing = (Header::LEN - self.head.len()).min(bytes.len());
            self.head.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            let Some(raw) = self.head.first_chunk() else {
                return Ok(());
            };
            self.header = Some(Header::from_bytes(raw));
            // Now it is known how much to answer.
            self.writable.0.store(true, Ordering::Relaxed);
        }
        let Some(header) = self.header else {
            return Ok(());
        };
        let mut expected = vec![0; bytes.len()];
        self.theirs.fill(header.nonce, self.received, &mut expected);
        if bytes != expected {
            return Err(format!("{self:?} was handed bytes that its peer never wrote"));
        }
        self.received += bytes.len() as u64;
        if self.role == Role::Accepted && self.received == self.expects() {
            self.writable.0.store(true, Ordering::Relaxed);
        }
        if self.received > self.expects() {
            return Err(format!("{self:?} was handed more bytes than its peer wrote"));
        }
        Ok(())
    }

    fn write(&mut self, now: Time, peer: &mut Peer) -> u64 {
        let waker = Waker::from(Arc::clone(&self.writable));
        let mut cx = Context::from_waker(&waker);
        let (before, mut chunk) = (self.written, [0; 4 << 10]);
        while let Some(len) = self.next_chunk(now, &mut chunk) {
            match peer.poll_write(self.conn, &mut cx, &chunk[..len]) {
                Poll::Pending => break,
                Poll::Ready(Ok(n)) => self.written += n as u64,
                Poll::Ready(Err(error)) => {
                    self.end = Some(End::Error(error));
                    break;
                }
            }
        }
        // Who accepted closes last, as servers do.
        let heard = self.role == Role::Dialed || self.received == self.expects();
        if !self.shut && self.end.is_none() && self.header.is_some() && heard && self.written == self.to_write() {
            self.shut = true;
            if let Err(error) = peer.shutdown(self.conn) {
                self.end = Some(End::Error(error));
            }
        }
        self.written - before
    }

    /// The next bytes to write.
    fn next_chunk(&self, now: Time, chunk: &mut [u8]) -> Option<usize> {
        let header = self.header?;
        let start = self.written;
        let total = if now < self.pause_until {
            self.to_write() / 2
        } else {
            self.to_write()
        };
        let len = total.saturating_sub(start).min(chunk.len() as u64) as usize;
        if len == 0 {
            return None;
        }
        let head = if self.role == Role::Dialed {
            Header::LEN as u64
        } else {
            0
        };
        if start < head {
            let len = len.min((head - start) as usize);
            chunk[..len].copy_from_slice(&header.to_bytes()[start as usize..start as usize + len]);
            return Some(len);
        }
        self.ours.fill(header.nonce, start - head, &mut chunk[..len]);
        Some(len)
    }

    fn to_write(&self) -> u64 {
        let header = self.header.map_or((0, 0), |header| (header.up, header.down));
        match self.role {
            Role::Dialed => Header::LEN as u64 + u64::from(header.0),
            Role::Accepted => u64::from(header.1),
        }
    }

    fn expects(&self) -> u64 {
        let header = self.header.map_or((0, 0), |header| (header.up, header.down));
        u64::from(if self.role == Role::Dialed { header.1 } else { header.0 })
    }

    fn settle(&mut self) {
        if self.end.is_some() || !self.peer_done {
            return;
        }
        if self.header.is_none() || self.received < self.expects() {
            self.end = Some(End::Short);
        } else if self.shut {
            self.end = Some(End::Complete);
        }
    }
}

/// The payload of a datagram: its number, then bytes that only its sender can make.
pub fn datagram(sender: Secret, number: u64) -> Vec<u8> {
    let mut payload = vec![0; DATAGRAM_LEN];
    payload[..8].copy_from_slice(&number.to_le_bytes());
    sender.fill(number ^ DATAGRAM, 0, &mut payload[8..]);
    payload
}

/// The number of a datagram that `sender` made; `None` when it did not.
pub fn open_datagram(sender: Secret, payload: &[u8]) -> Option<u64> {
    let number = u64::from_le_bytes(*payload.first_chunk()?);
    (payload == datagram(sender, number)).then_some(number)
}

const DATAGRAM_LEN: usize = 48;
/// Keeps the numbers of datagrams apart from those of connections.
const DATAGRAM: u64 = 1 << 63;
