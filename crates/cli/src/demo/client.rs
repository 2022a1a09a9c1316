//! The HTTP client by which the demo's people speak to the server: over their own node, with the server's own root.

use std::{sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1::SendRequest,
    header::{ACCEPT, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use tailnet_node::Node;
use tokio_rustls::TlsConnector;

use super::BoxError;

/// No answer of the demo's server is anywhere near this long, in bytes.
const MAX_BODY: usize = 256 << 10;

/// One connection to the server, kept open between requests.
pub(super) struct Client {
    host: String,
    sender: SendRequest<Full<Bytes>>,
}

/// A status and the JSON that came with it, or `null` when it was no JSON.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Value,
}

impl Client {
    /// Dials `host` at port 443 through `node`, trusting `root` (PEM) and nothing else.
    pub(super) async fn connect(node: &Node, host: &str, root: &str) -> Result<Self, BoxError> {
        let stream = node.dial(&format!("{host}:443")).await?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(root.as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_owned())?;
        let tls = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?;
        // Ends with the connection, which ends with the node at the latest.
        tokio::spawn(connection);
        Ok(Self {
            host: host.to_owned(),
            sender,
        })
    }

    pub(super) async fn get(&mut self, path: &str) -> Result<Answer, BoxError> {
        self.send(Method::GET, path, None).await
    }

    pub(super) async fn post(&mut self, path: &str, body: &Value) -> Result<Answer, BoxError> {
        self.send(Method::POST, path, Some(body)).await
    }

    /// Waits until the server, or the tailnet, ends the connection.
    pub(super) async fn ended(&mut self) {
        while self.sender.ready().await.is_ok() && !self.sender.is_closed() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn send(&mut self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, BoxError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.host)
            .header(ACCEPT, "application/json");
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        self.sender.ready().await?;
        let response = self.sender.send_request(request.body(Full::from(body))?).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await?.to_bytes();
        Ok(Answer {
            status,
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        })
    }
}

impl Answer {
    /// A string member of the body, or nothing.
    pub(super) fn text(&self, name: &str) -> &str {
        self.body[name].as_str().unwrap_or_default()
    }
}
