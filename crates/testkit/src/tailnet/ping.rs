//! Questions that control asks a node: pings, and requests to the node's own small HTTP server (c2n).

use std::{net::IpAddr, time::Duration};

use bytes::Bytes;
use tailnet_wire::control::{MapResponse, NodeId, PingRequest, PingResponse};
use tokio::sync::oneshot;

use super::Tailnet;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PingError {
    /// The node has no map stream to ask it over.
    #[error("the node is offline")]
    Offline,
    /// The node did not answer in time.
    #[error("the node did not answer in time")]
    Silent,
    /// The answer cannot be read.
    #[error("the answer is malformed: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// What a node answered.
#[derive(Debug)]
pub struct Answer {
    body: oneshot::Receiver<Bytes>,
    url: String,
}

impl Answer {
    /// The URL that the node was asked to use.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits for the body of the answer.
    ///
    /// # Errors
    /// [`PingError::Silent`].
    pub async fn body(self, timeout: Duration) -> Result<Bytes, PingError> {
        match tokio::time::timeout(timeout, self.body).await {
            Ok(Ok(body)) => Ok(body),
            _ => Err(PingError::Silent),
        }
    }
}

impl Tailnet {
    /// Asks a node for a sign of life: a HEAD request, inside Noise or as plain HTTPS.
    ///
    /// # Errors
    /// [`PingError`].
    pub async fn ping_control(&self, id: NodeId, noise: bool, timeout: Duration) -> Result<(), PingError> {
        let request = PingRequest {
            url_is_noise: noise,
            ..PingRequest::default()
        };
        self.ask(id, request)?.body(timeout).await.map(drop)
    }

    /// Lets a node send an HTTP/1.1 request to itself; gives its whole HTTP/1.1 response.
    ///
    /// # Errors
    /// [`PingError`].
    pub async fn c2n(&self, id: NodeId, request: &str, timeout: Duration) -> Result<Bytes, PingError> {
        let payload = request.as_bytes().to_vec();
        let request = PingRequest {
            url_is_noise: true,
            types: "c2n".to_owned(),
            payload,
            ..PingRequest::default()
        };
        self.ask(id, request)?.body(timeout).await
    }

    /// Lets a node ping a peer. `kind` is `disco`, `TSMP`, `ICMP` or `peerapi`.
    ///
    /// # Errors
    /// [`PingError`].
    pub async fn ping_peer(
        &self,
        id: NodeId,
        kind: &str,
        ip: IpAddr,
        timeout: Duration,
    ) -> Result<PingResponse, PingError> {
        let request = PingRequest {
            url_is_noise: true,
            types: kind.to_owned(),
            ip: Some(ip),
            ..PingRequest::default()
        };
        let body = self.ask(id, request)?.body(timeout).await?;
        Ok(serde_json::from_slice(&body)?)
    }

    /// Sends any ping request; its URL is filled in here.
    ///
    /// # Errors
    /// [`PingError::Offline`].
    pub fn ask(&self, id: NodeId, mut request: PingRequest) -> Result<Answer, PingError> {
        let (url, body) = self.control.await_answer();
        request.url.clone_from(&url);
        let message = MapResponse {
            ping_request: Some(request),
            ..MapResponse::default()
        };
        let message = serde_json::to_string(&message)?;
        if self.inject(id, &message) == 0 {
            return Err(PingError::Offline);
        }
        Ok(Answer { body, url })
    }
}
