//! The task of one region: connect when needed, serve, connect again.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rand::Rng;
use tailnet_wire::{
    control::{DerpNode, DerpRegion},
    derp::{Decoder, FRAME_HEADER_LEN, Frame, FrameError, KEEP_ALIVE, ServerInfo},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

use super::{
    Context, DerpPacket, DerpState, DerpStatus, IDLE,
    dial::{Link, dial},
    queue::SendQueue,
};
use crate::{clock, trouble::Trouble};

/// A relay that takes nothing for this long is dead.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Room for one read, so that a batch holds what came meanwhile.
const READ_SIZE: usize = 32 << 10;
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MOST: Duration = Duration::from_secs(5);
/// A connection that held this long was a success: the next failure starts from the shortest delay.
const STEADY: Duration = Duration::from_secs(10);
/// The longest time that a restarting relay may send us away for.
const RESTART_MOST: Duration = Duration::from_secs(60);

/// The clocks of a connection; tests turn them faster.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timers {
    /// Without a byte for this long a connection is dead.
    pub(super) silence: Duration,
    /// Without a packet for this long a connection to a region that is not home is closed.
    pub(super) idle: Duration,
    /// How often an idle connection is looked at.
    pub(super) tick: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            // The relay's keepalive came due twice.
            silence: KEEP_ALIVE.saturating_mul(2),
            idle: IDLE,
            tick: Duration::from_secs(15),
        }
    }
}

/// What the pool wants of a region.
#[derive(Debug, Clone)]
pub(super) struct Orders {
    pub(super) region: Arc<DerpRegion>,
    pub(super) home: bool,
}

impl Orders {
    /// True when it changed.
    pub(super) fn set_region(&mut self, region: &Arc<DerpRegion>) -> bool {
        let changed = self.region != *region;
        self.region = region.clone();
        changed
    }

    /// True when it changed.
    pub(super) fn set_home(&mut self, home: bool) -> bool {
        std::mem::replace(&mut self.home, home) != home
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("nothing to send or receive")]
    Idle,
    #[error("the DERP map has changed")]
    MapChanged,
    #[error("the relay is silent")]
    Silent,
    #[error("the relay takes no data")]
    Stuck,
    #[error("the relay has closed the connection")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
}

/// One region's task.
pub(super) struct RegionTask {
    context: Arc<Context>,
    number: u32,
    queue: Arc<SendQueue>,
    orders: watch::Receiver<Orders>,
    trouble: Trouble,
}

/// What reader and writer of one connection share.
struct Session {
    last_packet: Mutex<Instant>,
    ping: Mutex<Option<([u8; 8], Instant)>>,
    restart_in: Mutex<Option<Duration>>,
}

impl RegionTask {
    pub(super) fn new(
        context: Arc<Context>,
        number: u32,
        queue: Arc<SendQueue>,
        orders: watch::Receiver<Orders>,
    ) -> Self {
        Self {
            context,
            number,
            queue,
            orders,
            trouble: Trouble::default(),
        }
    }

    /// Runs until the pool cancels it.
    pub(super) async fn run(mut self) {
        let mut failures = 0;
        // An error means that the pool is gone and takes this task with it.
        while self.wait_until_needed().await.is_ok() {
            self.show(|status| status.state = DerpState::Connecting);
            let region = self.orders.borrow_and_update().region.clone();
            let delay = match dial(&self.context, &region).await {
                Ok(link) => {
                    let begin = clock::now();
                    let restart_in = self.serve(link).await;
                    if clock::now().duration_since(begin) > STEADY {
                        failures = 0;
                    }
                    restart_in
                }
                Err(error) => {
                    self.complain(&error.to_string());
                    self.queue.clear();
                    None
                }
            };
            if self.orders.borrow().home || self.queue.has_packets() {
                self.wait(delay.unwrap_or_else(|| backoff(failures))).await;
                failures += 1;
            }
        }
    }

    /// Without the home relay peers may not find this node at all, so a person hears of it: once for each reason.
    fn complain(&mut self, reason: &str) {
        self.show(|status| status.last_error = Some(reason.to_owned()));
        if self.trouble.is_news(reason) && self.orders.borrow().home {
            warn!(
                event = "derp_unreachable",
                region = self.number,
                "the home DERP relay cannot be reached: {reason}; trying again. Until then only peers with a direct path \
                 reach this node; check the relay, DNS and, for a private CA, extra_ca_file"
            );
        } else {
            debug!(region = self.number, reason, "no connection to DERP region");
        }
    }

    async fn wait_until_needed(&mut self) -> Result<(), watch::error::RecvError> {
        self.orders.has_changed()?;
        while !self.orders.borrow_and_update().home && !self.queue.has_packets() {
            self.show(|status| status.state = DerpState::Idle);
            tokio::select! {
                () = self.queue.pushed() => {}
                changed = self.orders.changed() => changed?,
            }
        }
        Ok(())
    }

    /// Sleeps, but not through a change of orders.
    async fn wait(&mut self, delay: Duration) {
        tokio::select! {
            () = sleep(delay) => {}
            _ = self.orders.changed() => {}
        }
    }

    /// Serves a connection to its end; says how long a restarting relay wants to be left alone.
    async fn serve(&mut self, link: Link) -> Option<Duration> {
        let Link {
            stream,
            decoder,
            info,
            node,
        } = link;
        let name = node.name.clone();
        let now = clock::now();
        self.show(|status| {
            status.state = DerpState::Connected {
                node: name.clone(),
                since: now,
            };
            status.last_error = None;
            status.health = None;
        });
        self.trouble.over();
        info!(region = self.number, node = name, "connected to DERP");
        let session = Session {
            last_packet: Mutex::new(now),
            ping: Mutex::new(None),
            restart_in: Mutex::new(None),
        };
        let (reader, writer) = tokio::io::split(stream);
        let orders = self.orders.clone();
        let end = tokio::select! {
            end = self.read(reader, decoder, &session) => end,
            end = self.write(writer, orders, &node, Limit::new(&info, now), &session) => end,
        };
        // The end may have come in the middle of a write.
        self.queue.settled();
        match end {
            Err(end @ (End::Idle | End::MapChanged)) => debug!(region = self.number, %end, "left DERP"),
            Err(end) => {
                warn!(region = self.number, %end, "lost DERP connection");
                self.show(|status| status.last_error = Some(end.to_string()));
            }
            Ok(never) => match never {},
        }
        self.show(|status| status.state = DerpState::Idle);
        session.restart_in.into_inner()
    }

    async fn read(
        &self,
        mut reader: impl AsyncRead + Unpin,
        mut decoder: Decoder,
        session: &Session,
    ) -> Result<std::convert::Infallible, End> {
        let mut batch = Vec::new();
        loop {
            while let Some(frame) = decoder.next_frame()? {
                self.handle(frame, &mut batch, session);
            }
            if !batch.is_empty() {
                *session.last_packet.lock() = clock::now();
                self.queue.counters().add_received(batch.len());
                self.context.sink.packets(self.number, &mut batch);
                batch.clear();
            }
            decoder.buffer().reserve(READ_SIZE);
            match timeout(self.context.timers.silence, reader.read_buf(decoder.buffer())).await {
                Err(_) => return Err(End::Silent),
                Ok(Ok(0)) => return Err(End::Closed),
                Ok(read) => read?,
            };
        }
    }

    fn handle(&self, frame: Frame, batch: &mut Vec<DerpPacket>, session: &Session) {
        match frame {
            Frame::RecvPacket { src, packet } => batch.push(DerpPacket { src, packet }),
            Frame::PeerGone { key, reason } => self.context.sink.peer_gone(self.number, key, reason),
            Frame::Ping(data) => self.queue.push_control(&Frame::Pong(data)),
            Frame::Pong(data) => {
                let sent = session.ping.lock().take_if(|(expected, _)| *expected == data);
                if let Some((_, at)) = sent {
                    let rtt = clock::now().duration_since(at);
                    self.show(|status| status.rtt = Some(rtt));
                }
            }
            Frame::Health(text) => {
                if !text.is_empty() {
                    warn!(
                        region = self.number,
                        problem = text,
                        "the DERP relay complains of this connection"
                    );
                }
                self.show(|status| status.health = Some(text).filter(|text| !text.is_empty()));
            }
            Frame::Restarting { reconnect_in, .. } => {
                info!(
                    region = self.number,
                    ?reconnect_in,
                    "the DERP relay is about to restart"
                );
                *session.restart_in.lock() = Some(reconnect_in.min(RESTART_MOST));
            }
            // Keepalives have done their work by arriving; the rest is not for clients.
            _ => {}
        }
    }

    async fn write(
        &self,
        mut writer: impl AsyncWrite + Unpin,
        mut orders: watch::Receiver<Orders>,
        node: &DerpNode,
        mut limit: Limit,
        session: &Session,
    ) -> Result<std::convert::Infallible, End> {
        let mut noted_home = false;
        let mut ticks = 0u32;
        loop {
            let now = Orders::clone(&orders.borrow_and_update());
            if now.home != noted_home {
                noted_home = now.home;
                self.show(|status| status.home = noted_home);
                self.queue.push_control(&Frame::NotePreferred(noted_home));
            }
            if !now.region.nodes.contains(node) {
                return Err(End::MapChanged);
            }
            self.write_waiting(&mut writer, &mut limit, session).await?;
            tokio::select! {
                () = self.queue.pushed() => {}
                changed = orders.changed() => if changed.is_err() { return Err(End::Idle) },
                () = sleep(self.context.timers.tick) => {
                    if !now.home && clock::now().duration_since(*session.last_packet.lock()) >= self.context.timers.idle {
                        return Err(End::Idle);
                    }
                    // One ping a minute keeps NATs open from our side and shows the round trip.
                    if ticks.is_multiple_of(4) {
                        self.ping(session);
                    }
                    ticks = ticks.wrapping_add(1);
                }
            }
        }
    }

    async fn write_waiting(
        &self,
        writer: &mut (impl AsyncWrite + Unpin),
        limit: &mut Limit,
        session: &Session,
    ) -> Result<(), End> {
        let (control, mut packets) = self.queue.take();
        let now = clock::now();
        // Cut off at the first frame that the relay's limit forbids: what follows would be late anyway.
        let allowed = packets.lengths().take_while(|length| limit.take(*length, now)).count();
        let bytes = packets.split(allowed);
        self.queue.counters().add_dropped(packets.len());
        if control.is_empty() && bytes.is_empty() {
            self.queue.settled();
            return Ok(());
        }
        let write = async {
            writer.write_all(&control).await?;
            writer.write_all(&bytes).await?;
            writer.flush().await
        };
        timeout(WRITE_TIMEOUT, write).await.map_err(|_| End::Stuck)??;
        self.queue.settled();
        if allowed > 0 {
            self.queue.counters().add_sent(allowed);
            *session.last_packet.lock() = now;
        }
        Ok(())
    }

    fn ping(&self, session: &Session) {
        let data = clock::rng().random::<[u8; 8]>();
        *session.ping.lock() = Some((data, clock::now()));
        self.queue.push_control(&Frame::Ping(data));
    }

    fn show(&self, change: impl FnOnce(&mut DerpStatus)) {
        let orders = self.orders.borrow();
        self.context.status.send_modify(|all| {
            let status = all.entry(self.number).or_insert_with(|| DerpStatus {
                code: orders.region.region_code.clone(),
                counters: self.queue.counters().clone(),
                ..DerpStatus::default()
            });
            status.home = orders.home;
            change(status);
        });
    }
}

/// The relay's rate limit: a bucket of bytes (ServerInfo).
struct Limit {
    per_second: f64,
    burst: f64,
    tokens: f64,
    at: Instant,
}

impl Limit {
    fn new(info: &ServerInfo, now: Instant) -> Self {
        let per_second = info.token_bucket_bytes_per_second as f64;
        // A bucket that holds no whole packet would let none through.
        let burst = (info.token_bucket_bytes_burst as f64).max((FRAME_HEADER_LEN + (64 << 10)) as f64);
        Self {
            per_second,
            burst,
            tokens: burst,
            at: now,
        }
    }

    /// Takes `bytes` from the bucket; false when they are not there.
    fn take(&mut self, bytes: usize, now: Instant) -> bool {
        if self.per_second == 0.0 {
            return true;
        }
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.tokens = (self.tokens + elapsed * self.per_second).min(self.burst);
        let enough = self.tokens >= bytes as f64;
        if enough {
            self.tokens -= bytes as f64;
        }
        enough
    }
}

/// Doubles from failure to failure, with half of it left to chance so that nodes do not come in step.
fn backoff(failures: u32) -> Duration {
    let most = BACKOFF_FIRST.saturating_mul(1 << failures.min(10)).min(BACKOFF_MOST);
    most.mul_f64(clock::rng().random_range(0.5..=1.0))
}
