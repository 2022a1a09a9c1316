//! An HTTP client on one connection through the tailnet, in TLS unless the server has none.

use std::sync::Arc;

use bytes::Bytes;
use countersign_server::Server;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::Value;
use tailnet_node::Node;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;
use url::form_urlencoded;

use crate::PATIENCE;

/// An open connection to the server.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    ended: JoinHandle<()>,
}

/// What the server answered.
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub text: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect(&self.text)
    }

    /// A string field of the body.
    ///
    /// # Panics
    /// When there is none.
    pub fn field(&self, name: &str) -> String {
        self.json()[name].as_str().expect(&self.text).to_owned()
    }

    /// A header, empty when absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

impl Client {
    pub(crate) async fn connect(node: &Node, server: &Server) -> Self {
        let host = server.issuer().host().to_owned();
        let port = if server.root_pem().is_some() { 443 } else { 80 };
        let stream = tokio::time::timeout(PATIENCE, node.dial(&format!("{host}:{port}")))
            .await
            .expect("in time")
            .expect("the server is reachable");
        match server.root_pem() {
            None => Self::over(stream, host).await,
            Some(root) => {
                let name = ServerName::try_from(host.clone()).expect("a name");
                let tls = connector(root).connect(name, stream).await.expect("a handshake");
                Self::over(tls, host).await
            }
        }
    }

    async fn over<Io>(io: Io, host: String) -> Self
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(io)).await.expect("http");
        let ended = tokio::spawn(async move {
            // How it ends is what some tests wait for; why does not matter to them.
            let _ = connection.await;
        });
        Self { sender, host, ended }
    }

    /// Returns when the connection has ended.
    pub async fn ended(self) {
        let _ = self.ended.await;
    }

    /// Sends a request; `None` when there is no answer.
    pub async fn try_send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Option<Answer> {
        let mut request = Request::builder().method(method).uri(path).header("host", &self.host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::from(body.to_owned())).expect("a request");
        self.sender.ready().await.ok()?;
        let response = tokio::time::timeout(PATIENCE, self.sender.send_request(request))
            .await
            .ok()?
            .ok()?;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.ok()?.to_bytes();
        Some(Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8_lossy(&bytes).into_owned(),
        })
    }

    /// Sends a request and wants an answer.
    ///
    /// # Panics
    /// When there is none.
    pub async fn send(&mut self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.try_send(method, path, headers, body).await.expect("an answer")
    }

    /// `GET`.
    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    /// Registers a client.
    pub async fn register(&mut self, metadata: &Value) -> Answer {
        let json = [("content-type", "application/json")];
        self.send(Method::POST, "/register", &json, &metadata.to_string()).await
    }

    /// Sends a form.
    pub async fn post(&mut self, path: &str, pairs: &[(&str, &str)], headers: &[(&str, &str)]) -> Answer {
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(pairs)
            .finish();
        let mut all = vec![("content-type", "application/x-www-form-urlencoded")];
        all.extend_from_slice(headers);
        self.send(Method::POST, path, &all, &form).await
    }
}

fn connector(root: &str) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(root.as_bytes()).expect("a certificate"))
        .expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}
