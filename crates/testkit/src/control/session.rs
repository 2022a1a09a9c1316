//! One open map stream.
//!
//! The session remembers what it last told its node. Whenever the registry changes it computes what the node should
//! know now, and sends the difference, so no change is lost or sent twice, whatever its cause.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tailnet_wire::control::{MapResponse, NodeId};
use tokio::{sync::mpsc, time::Instant};

use super::{Control, machine::Body, mapper::Mapper};

/// How many messages may wait for a client that does not read; then the session waits too.
const QUEUE: usize = 8;
const INJECTIONS: usize = 64;

/// The node at the other end, and how it wants its messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Viewer {
    pub(super) id: NodeId,
    pub(super) version: u16,
    pub(super) zstd: bool,
}

/// What a test puts into a stream by hand.
#[derive(Debug, Clone)]
pub(crate) enum Injection {
    /// A message as JSON text, framed and compressed as the others.
    Message(Bytes),
    /// Bytes that go out as they are.
    Raw(Bytes),
    /// The stream ends.
    End,
}

/// Opens a stream and gives its response body. The session ends when the client drops the body.
pub(super) async fn open(control: Arc<Control>, viewer: Viewer, keep_alive: bool) -> Body {
    let (frames, waiting) = mpsc::channel::<Bytes>(QUEUE);
    let (injections, injected) = mpsc::channel(INJECTIONS);
    control.sessions.lock().entry(viewer.id).or_default().push(injections);
    control.map_streams.fetch_add(1, Relaxed);
    let session = Session {
        control,
        viewer,
        frames,
        open: None,
    };
    tokio::spawn(session.run(injected, keep_alive));
    let stream = futures_util::stream::unfold(waiting, |mut waiting| async move {
        let frame = waiting.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(frame)), waiting))
    });
    StreamBody::new(stream).boxed_unsync()
}

struct Session {
    control: Arc<Control>,
    viewer: Viewer,
    frames: mpsc::Sender<Bytes>,
    open: Option<OpenStream>,
}

impl Session {
    async fn run(mut self, mut injected: mpsc::Receiver<Injection>, keep_alive: bool) {
        self.open = Some(OpenStream::new(self.control.clone(), self.viewer.id));
        let mut changes = self.control.registry.subscribe();
        let mut mapper = Mapper::new(self.viewer);
        let every = self.control.settings.keep_alive;
        let mut last = Instant::now();
        loop {
            // What was injected before a change also goes out before it.
            while let Ok(what) = injected.try_recv() {
                if self.inject(Some(what)).await.is_err() {
                    return;
                }
            }
            changes.mark_unchanged();
            match mapper.next(&self.control) {
                Err(_) => return,
                Ok(Some(message)) => {
                    last = Instant::now();
                    if self.send(&message).await.is_err() {
                        return;
                    }
                }
                Ok(None) => {}
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                what = injected.recv() => {
                    if self.inject(what).await.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep_until(last + every), if keep_alive => {
                    last = Instant::now();
                    let message = MapResponse { keep_alive: true, ..MapResponse::default() };
                    if self.send(&message).await.is_err() {
                        return;
                    }
                }
                () = self.frames.closed() => return,
            }
        }
    }

    async fn inject(&self, what: Option<Injection>) -> Result<(), Ended> {
        match what {
            Some(Injection::Message(json)) => self.send_json(&json).await,
            Some(Injection::Raw(bytes)) => self.frames.send(bytes).await.map_err(|_| Ended),
            Some(Injection::End) | None => Err(Ended),
        }
    }

    async fn send(&self, message: &MapResponse) -> Result<(), Ended> {
        let json = serde_json::to_vec(message).map_err(|_| Ended)?;
        self.send_json(&json).await
    }

    /// Length in little-endian, alone among the protocols here, then JSON or one zstd frame.
    async fn send_json(&self, json: &[u8]) -> Result<(), Ended> {
        let faults = &self.control.registry.faults;
        tokio::select! {
            () = async {
                faults.thawed().await;
                faults.let_go(self.viewer.id).await;
            } => {}
            () = self.frames.closed() => return Err(Ended),
        }
        let compressed;
        let body = if self.viewer.zstd {
            compressed = zstd::bulk::compress(json, 1).map_err(|_| Ended)?;
            compressed.as_slice()
        } else {
            json
        };
        let mut frame = BytesMut::with_capacity(4 + body.len());
        frame.put_u32_le(u32::try_from(body.len()).map_err(|_| Ended)?);
        frame.extend_from_slice(body);
        self.frames.send(frame.freeze()).await.map_err(|_| Ended)
    }
}

/// The client is gone, or the node is.
#[derive(Debug)]
pub(super) struct Ended;

/// Counts as a stream of its node while it lives.
struct OpenStream {
    control: Arc<Control>,
    id: NodeId,
}

impl OpenStream {
    fn new(control: Arc<Control>, id: NodeId) -> Self {
        control.registry.change_node(id, |node| node.streams += 1);
        Self { control, id }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let registry = &self.control.registry;
        let wall = registry.wall();
        let mut ephemeral = false;
        registry.change_node(self.id, |node| {
            node.streams = node.streams.saturating_sub(1);
            node.last_seen = wall;
            ephemeral = node.ephemeral && node.streams == 0;
        });
        let mut sessions = self.control.sessions.lock();
        if let Some(streams) = sessions.get_mut(&self.id) {
            streams.retain(|stream| !stream.is_closed());
        }
        if ephemeral {
            tokio::spawn(forget(
                self.control.clone(),
                self.id,
                self.control.settings.ephemeral_timeout,
            ));
        }
    }
}

/// Deletes an ephemeral node unless it comes back in time.
async fn forget(control: Arc<Control>, id: NodeId, timeout: Duration) {
    tokio::time::sleep(timeout).await;
    let gone = control
        .registry
        .lock()
        .nodes
        .get(&id)
        .is_some_and(|node| node.streams == 0);
    if gone {
        control.registry.remove_node(id);
    }
}
