//! One connection to control: Noise handshake, early payload, HTTP/2 requests.

use std::{future::poll_fn, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use rand::RngCore;
use rustls::ClientConfig;
use serde::Serialize;
use tailnet_wire::{
    control::{CAPABILITY_VERSION, MapRequest, MapResponse, RegisterRequest, RegisterResponse},
    key::{MachinePrivate, MachinePublic, NodePublic},
    mapframe::{Compression, MapFrames},
    noise::{Early, Initiator, Transport},
};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};
use tokio::{io::AsyncReadExt as _, time::timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{
    ControlError,
    dial::{Io, limited, upgrade},
    noise::NoiseStream,
    target::Target,
};

const REGISTER: &str = "/machine/register";
const MAP: &str = "/machine/map";
const PING: &str = "the ping URL";
/// Go's bound for an answer that is not a stream.
const MAX_BODY: usize = 1024 * 1024;
/// Of an error body, what is worth showing.
const MAX_ERROR_TEXT: usize = 200;
/// For a request that is answered at once.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Bytes of the map stream that may be under way: more than a round trip's worth, bounded.
const STREAM_WINDOW: u32 = 1024 * 1024;

/// An HTTP/2 connection inside Noise. Dropping it ends it.
pub(super) struct Connection {
    requests: SendRequest<Bytes>,
    target: Arc<Target>,
    _driver: AbortOnDropHandle<()>,
}

impl Connection {
    /// Dials, shakes hands as `machine` with the owner of `server`, and starts HTTP/2.
    pub(super) async fn open(
        target: Arc<Target>,
        tls: &Arc<ClientConfig>,
        machine: &MachinePrivate,
        server: &MachinePublic,
        rng: &mut (dyn RngCore + Send),
    ) -> Result<Self, ControlError> {
        let (initiator, initiation) = Initiator::new(CAPABILITY_VERSION, machine, server, rng)?;
        let (io, received) = upgrade(&target, tls, &initiation).await?;
        let work = async {
            let (io, transport, received) = finish(&target, initiator, io, received).await?;
            let stream = skip_early(&target, NoiseStream::new(io, transport, received)).await?;
            let mut settings = h2::client::Builder::new();
            settings
                .enable_push(false)
                .initial_window_size(STREAM_WINDOW)
                .initial_connection_window_size(2 * STREAM_WINDOW);
            settings.max_header_list_size(16 * 1024);
            let (requests, connection) = settings.handshake(stream).await.map_err(broken)?;
            let driver = tokio::spawn(async move {
                if let Err(error) = connection.await {
                    // Each request in flight reports the error to whoever waits for it.
                    tracing::debug!(%error, "control connection ended");
                }
            });
            Ok(Self {
                requests,
                target: target.clone(),
                _driver: AbortOnDropHandle::new(driver),
            })
        };
        limited(&target, "shaking hands", work).await
    }

    /// Posts a registration. One that follows up a login page is answered when the person is done.
    pub(super) async fn register(&self, request: RegisterRequest) -> Result<RegisterResponse, ControlError> {
        let key = request.node_key;
        let patient = !request.followup.is_empty();
        let work = async {
            let answer = self.post_json(REGISTER, key, &request).await?;
            let body = read_body(REGISTER, answer).await?;
            serde_json::from_slice(&body).map_err(|source| ControlError::Json { path: REGISTER, source })
        };
        if patient {
            work.await
        } else {
            self.answered(REGISTER, work).await
        }
    }

    /// Opens the map stream.
    pub(super) async fn stream(&self, request: MapRequest) -> Result<MapStream, ControlError> {
        let answer = self.post_json(MAP, request.node_key, &request).await?;
        let answer = check(MAP, answer).await?;
        Ok(MapStream {
            body: answer.into_body(),
            frames: MapFrames::new(Compression::Zstd),
        })
    }

    /// Posts an update; only whether it was accepted matters.
    pub(super) async fn update(&self, request: MapRequest) -> Result<(), ControlError> {
        let work = async {
            let answer = self.post_json(MAP, request.node_key, &request).await?;
            check(MAP, answer).await.map(drop)
        };
        self.answered(MAP, work).await
    }

    /// Sends bytes to a URL of control's choice, through Noise.
    pub(super) async fn send(&self, method: Method, url: &str, body: Bytes) -> Result<(), ControlError> {
        let work = async {
            let request = Request::builder().method(method).uri(url).body(());
            let request = request.map_err(|e| ControlError::Broken(e.to_string()))?;
            check(PING, self.request(request, body).await?).await.map(drop)
        };
        self.answered(PING, work).await
    }

    async fn post_json(
        &self,
        path: &'static str,
        key: Option<NodePublic>,
        body: &impl Serialize,
    ) -> Result<Response<h2::RecvStream>, ControlError> {
        let json = serde_json::to_vec(body).map_err(|source| ControlError::Json { path, source })?;
        let mut request = Request::post(format!("https://{}{path}", self.target.authority))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = key {
            // A hint for load balancers (Go: `tailcfg.LBHeader`).
            request = request.header("ts-lb", key.to_string());
        }
        let request = request.body(()).map_err(|e| ControlError::Broken(e.to_string()))?;
        self.request(request, json.into()).await
    }

    async fn request(&self, request: Request<()>, body: Bytes) -> Result<Response<h2::RecvStream>, ControlError> {
        let mut requests = self.requests.clone().ready().await.map_err(broken)?;
        let (answer, mut stream) = requests.send_request(request, body.is_empty()).map_err(broken)?;
        if !body.is_empty() {
            stream.send_data(body, true).map_err(broken)?;
        }
        answer.await.map_err(broken)
    }

    async fn answered<T>(
        &self,
        what: &'static str,
        work: impl Future<Output = Result<T, ControlError>>,
    ) -> Result<T, ControlError> {
        let late = |_| {
            Err(ControlError::Timeout {
                host: self.target.host.clone(),
                what,
                limit: ANSWER_LIMIT,
            })
        };
        timeout(ANSWER_LIMIT, work).await.unwrap_or_else(late)
    }
}

/// The messages of a map stream.
pub(super) struct MapStream {
    body: h2::RecvStream,
    frames: MapFrames,
}

impl MapStream {
    /// The next message. Cancel-safe: what has arrived is kept for the next call.
    pub(super) async fn next(&mut self) -> Result<Box<MapResponse>, ControlError> {
        loop {
            if let Some(json) = self.frames.next()? {
                return serde_json::from_slice(&json).map_err(|source| ControlError::Json { path: MAP, source });
            }
            let chunk = self
                .body
                .data()
                .await
                .ok_or(ControlError::StreamEnded)?
                .map_err(broken)?;
            self.frames.push(&chunk);
            self.body.flow_control().release_capacity(chunk.len()).map_err(broken)?;
        }
    }
}

type Upgraded = (Box<dyn Io>, Transport, BytesMut);

async fn finish(
    target: &Target,
    initiator: Initiator,
    mut io: Box<dyn Io>,
    mut received: BytesMut,
) -> Result<Upgraded, ControlError> {
    loop {
        if let Some(response) = Initiator::take_response(&mut received)? {
            return Ok((io, initiator.finish(&response)?, received));
        }
        let read = io.read_buf(&mut received).await;
        // A reset instead of an orderly end is the same refusal.
        if !matches!(read, Ok(1..)) {
            return Err(ControlError::HungUp {
                host: target.host.clone(),
            });
        }
    }
}

/// Reads until it is clear whether an early payload comes first, takes it, and hands back the stream with the rest.
async fn skip_early(
    target: &Target,
    mut stream: NoiseStream<Box<dyn Io>>,
) -> Result<NoiseStream<Box<dyn Io>>, ControlError> {
    let mut plaintext = BytesMut::new();
    loop {
        // The payload is a challenge that only tailnets with hardware-attested keys make use of.
        match Early::take(&mut plaintext)? {
            Early::Incomplete => {}
            Early::Absent if plaintext.is_empty() => {}
            Early::Absent | Early::Payload(_) => return Ok(stream.with_plaintext(plaintext.freeze())),
        }
        match poll_fn(|cx| stream.poll_chunk(cx)).await {
            Ok(Some(chunk)) => plaintext.extend_from_slice(&chunk),
            Ok(None) => {
                return Err(ControlError::HungUp {
                    host: target.host.clone(),
                });
            }
            Err(e) => return Err(ControlError::Broken(e.to_string())),
        }
    }
}

async fn check(path: &'static str, answer: Response<h2::RecvStream>) -> Result<Response<h2::RecvStream>, ControlError> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let retry_after = retry_after(answer.headers(), crate::clock::wall());
    let body = collect(answer.into_body(), MAX_ERROR_TEXT).await.unwrap_or_default();
    let text = match status {
        // Headscale answers 501 with a page of text where it lacks something.
        StatusCode::NOT_IMPLEMENTED => "this server does not support it".into(),
        _ => String::from_utf8_lossy(&body).trim().replace(char::is_control, " "),
    };
    Err(ControlError::Status {
        path,
        status: status.as_u16(),
        text,
        retry_after,
    })
}

async fn read_body(path: &'static str, answer: Response<h2::RecvStream>) -> Result<Bytes, ControlError> {
    let answer = check(path, answer).await?;
    let body = collect(answer.into_body(), MAX_BODY + 1).await?;
    if body.len() > MAX_BODY {
        return Err(ControlError::Broken(format!(
            "the answer to {path} is longer than 1 MiB"
        )));
    }
    Ok(body)
}

/// The first `limit` bytes of a body.
async fn collect(mut body: h2::RecvStream, limit: usize) -> Result<Bytes, ControlError> {
    let mut collected = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(broken)?;
        collected.extend_from_slice(&chunk[..chunk.len().min(limit - collected.len())]);
        if collected.len() == limit {
            break;
        }
        body.flow_control().release_capacity(chunk.len()).map_err(broken)?;
    }
    Ok(collected.freeze())
}

/// RFC 9110 section 10.2.3: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: OffsetDateTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = OffsetDateTime::parse(text, &Rfc2822).ok()?;
    Some(Duration::try_from(at - now).unwrap_or_default())
}

fn broken(error: h2::Error) -> ControlError {
    ControlError::Broken(error.to_string())
}

#[cfg(test)]
mod tests;
