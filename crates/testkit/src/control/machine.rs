//! The requests under `/machine/`, over HTTP/2 inside Noise.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::de::DeserializeOwned;
use tailnet_wire::{
    control::{MapRequest, NodeId, RegisterRequest, RegisterResponse},
    key::MachinePublic,
};

use super::{
    Control,
    noise::Session,
    session::{self, Viewer},
};
use crate::registry::Answer;

/// Headscale's limit is of this order too; a request is a host's description, not data.
const MAX_BODY: usize = 1 << 20;

pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Why a request gets no answer of its own kind.
struct Refusal(StatusCode, String);

/// Serves one client until it leaves.
pub(super) async fn serve(control: Arc<Control>, session: Session) {
    let Session {
        machine,
        version,
        stream,
        tasks: _tasks,
    } = session;
    let client = Arc::new(Client {
        control,
        machine,
        version,
    });
    let service = service_fn(move |request| {
        let client = client.clone();
        async move { Ok::<_, Infallible>(client.handle(request).await) }
    });
    let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "the HTTP/2 connection of a client ended");
    }
}

struct Client {
    control: Arc<Control>,
    machine: MachinePublic,
    version: u16,
}

impl Client {
    async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        let faults = &self.control.registry.faults;
        faults.thawed().await;
        if let Some(status) = faults.refusal().and_then(|status| StatusCode::from_u16(status).ok()) {
            let mut response = Response::new(whole("refused by a test".to_owned()));
            *response.status_mut() = status;
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
            return response;
        }
        let (head, body) = request.into_parts();
        let path = head.uri.path().to_owned();
        let result = match (&head.method, path.as_str()) {
            (&Method::POST, "/machine/register") => self.register(body).await,
            (&Method::POST, "/machine/map") => self.map(body).await,
            (&Method::HEAD | &Method::POST, path) if path.starts_with("/machine/answer/") => {
                self.answer(path, body).await
            }
            (_, path) if NOT_IMPLEMENTED.contains(&path) => {
                Err(Refusal(StatusCode::NOT_IMPLEMENTED, "Not implemented yet".to_owned()))
            }
            _ => Err(Refusal(StatusCode::NOT_FOUND, "404 page not found".to_owned())),
        };
        result.unwrap_or_else(|Refusal(status, text)| {
            tracing::debug!(%path, %status, text, "a control request was refused");
            let mut response = Response::new(whole(text));
            *response.status_mut() = status;
            response
        })
    }

    async fn register(&self, body: Incoming) -> Result<Response<Body>, Refusal> {
        let request: RegisterRequest = read(body).await?;
        self.check_version(request.version)?;
        let url = self.control.url();
        let login_url = |id: &str| format!("{url}/register/{id}");
        let registry = &self.control.registry;
        let response = match registry.register(self.machine, &request, login_url) {
            Answer::Now(response) => response,
            Answer::Wait(mut verdict) => {
                let decided = verdict
                    .wait_for(Option::is_some)
                    .await
                    .ok()
                    .and_then(|verdict| verdict.clone());
                match (decided, request.node_key) {
                    (Some(verdict), Some(key)) => registry.finish_login(self.machine, key, verdict),
                    _ => RegisterResponse {
                        error: "registration timed out".to_owned(),
                        ..Default::default()
                    },
                }
            }
        };
        Ok(json(&response))
    }

    async fn map(&self, body: Incoming) -> Result<Response<Body>, Refusal> {
        let request: MapRequest = read(body).await?;
        self.check_version(request.version)?;
        let node = self.find(&request)?;
        self.apply(node, &request);
        if !request.stream {
            // Also without OmitPeers: Headscale answers such a request with an empty 200.
            return Ok(Response::new(whole(String::new())));
        }
        let viewer = Viewer {
            id: node,
            version: request.version,
            zstd: request.compress == "zstd",
        };
        let keep_alive = request.keep_alive;
        Ok(Response::new(
            session::open(self.control.clone(), viewer, keep_alive).await,
        ))
    }

    fn find(&self, request: &MapRequest) -> Result<NodeId, Refusal> {
        let state = self.control.registry.lock();
        let node = request.node_key.and_then(|key| state.node_by_key(&key));
        let node = node.ok_or_else(|| Refusal(StatusCode::NOT_FOUND, "node not found".to_owned()))?;
        if node.machine != self.machine {
            let text = "node key in request does not match the one associated with this machine key";
            return Err(Refusal(StatusCode::NOT_FOUND, text.to_owned()));
        }
        Ok(node.id)
    }

    /// Takes over what the node says of itself. As on Headscale, a stream request counts too, an absent NetInfo keeps
    /// the old one, and an empty list of endpoints clears them.
    fn apply(&self, node: NodeId, request: &MapRequest) {
        let wall = self.control.registry.wall();
        self.control.registry.change_node(node, |node| {
            node.endpoints.clone_from(&request.endpoints);
            if request.disco_key.is_some() {
                node.disco = request.disco_key;
            }
            if let Some(hostinfo) = &request.hostinfo {
                node.set_hostinfo(hostinfo.clone());
            }
            node.last_seen = wall;
        });
    }

    async fn answer(&self, path: &str, body: Incoming) -> Result<Response<Body>, Refusal> {
        let body = collect(body).await?;
        if self.control.answered(path, body) {
            return Ok(Response::new(whole(String::new())));
        }
        Err(Refusal(
            StatusCode::NOT_FOUND,
            "nobody waits for this answer".to_owned(),
        ))
    }

    /// The version in a request must be served, and be the one that the handshake named.
    fn check_version(&self, version: u16) -> Result<(), Refusal> {
        let min = self.control.settings.min_version;
        if version < min {
            return Err(Refusal(
                StatusCode::BAD_REQUEST,
                format!("unsupported client version: ({version})"),
            ));
        }
        if version != self.version {
            let text = format!("version {version} in the request, {} in the handshake", self.version);
            return Err(Refusal(StatusCode::BAD_REQUEST, text));
        }
        Ok(())
    }
}

/// What Headscale 0.29 knows and does not do.
const NOT_IMPLEMENTED: [&str; 8] = [
    "/machine/whoami",
    "/machine/set-dns",
    "/machine/set-device-attr",
    "/machine/audit-log",
    "/machine/id-token",
    "/machine/feature/query",
    "/machine/update-health",
    "/machine/c2n",
];

async fn collect(body: Incoming) -> Result<Bytes, Refusal> {
    let collected = Limited::new(body, MAX_BODY).collect().await;
    collected
        .map(|body| body.to_bytes())
        .map_err(|error| Refusal(StatusCode::BAD_REQUEST, error.to_string()))
}

async fn read<T: DeserializeOwned>(body: Incoming) -> Result<T, Refusal> {
    let body = collect(body).await?;
    serde_json::from_slice(&body).map_err(|error| Refusal(StatusCode::BAD_REQUEST, error.to_string()))
}

fn json(value: &impl serde::Serialize) -> Response<Body> {
    let mut response = Response::new(whole(serde_json::to_string(value).unwrap_or_default()));
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
    response
}

fn whole(text: String) -> Body {
    Full::new(Bytes::from(text)).boxed_unsync()
}
