//! HTTP/1.1 on one kept-alive connection through the tailnet, plain or over TLS.
//!
//! The server may be killed at any moment, so a request has three ends: an answer, or [`Gone`], after which nobody
//! knows whether it was carried out.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::Value;
use tailnet_node::Node;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use url::form_urlencoded;

/// Longer than any answer takes from a server that lives.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a server may take to come back.
const COMEBACK: Duration = Duration::from_secs(60);

/// The connection ended before the answer was complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// An open connection.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    issuer: String,
    host: String,
}

/// What the server answered.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub text: String,
}

impl Answer {
    /// A string of the JSON body; empty when there is none.
    pub fn field(&self, name: &str) -> String {
        let body: Value = serde_json::from_str(&self.text).unwrap_or_default();
        body[name].as_str().unwrap_or_default().to_owned()
    }

    /// A header, empty when absent.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    }

    /// What stands between `before` and `after` in the body.
    pub fn between(&self, before: &str, after: char) -> Option<&str> {
        between(&self.text, before, after)
    }
}

/// What stands between `before` and `after` in a text.
pub(crate) fn between<'a>(text: &'a str, before: &str, after: char) -> Option<&'a str> {
    text.split_once(before)?.1.split(after).next()
}

/// The server as clients know it.
#[derive(Clone)]
pub struct Target {
    /// Its issuer, which is also where its endpoints are.
    pub issuer: String,
    tls: Option<TlsConnector>,
}

impl Target {
    /// A server with `tls = off`.
    pub fn plain(issuer: &str) -> Self {
        Self {
            issuer: issuer.to_owned(),
            tls: None,
        }
    }

    /// A server whose certificate the root `pem` vouches for.
    pub fn tls(issuer: &str, pem: &str) -> Self {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
        roots.add(root).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            issuer: issuer.to_owned(),
            tls: Some(TlsConnector::from(Arc::new(config))),
        }
    }

    fn host(&self) -> &str {
        self.issuer.split("://").nth(1).unwrap_or_default()
    }
}

impl Connection {
    /// Connects from `node`, again and again until the server is there.
    ///
    /// # Panics
    /// When it is not there after a minute.
    pub async fn open(node: &Node, target: &Target) -> Self {
        let attempts = async {
            loop {
                match Self::try_open(node, target).await {
                    Some(open) => return open,
                    None => sleep(Duration::from_millis(10)).await,
                }
            }
        };
        timeout(COMEBACK, attempts).await.expect("the server is reachable")
    }

    async fn try_open(node: &Node, target: &Target) -> Option<Self> {
        let host = target.host();
        let port = if target.tls.is_some() { 443 } else { 80 };
        let address = format!("{host}:{port}");
        let stream = timeout(Duration::from_secs(3), node.dial(&address)).await.ok()?.ok()?;
        let sender = match &target.tls {
            None => handshake(stream).await?,
            Some(tls) => {
                let name = ServerName::try_from(host.to_owned()).ok()?;
                let stream = timeout(PATIENCE, tls.connect(name, stream)).await.ok()?.ok()?;
                handshake(stream).await?
            }
        };
        Some(Self {
            sender,
            issuer: target.issuer.clone(),
            host: host.to_owned(),
        })
    }

    /// The issuer at the other end.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Sends a request.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, Gone> {
        let mut request = Request::builder().method(method).uri(path).header("host", &self.host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).expect("a request");
        let exchange = async {
            self.sender.ready().await.ok()?;
            let (parts, body) = self.sender.send_request(request).await.ok()?.into_parts();
            let bytes = body.collect().await.ok()?.to_bytes();
            Some(Answer {
                status: parts.status,
                headers: parts.headers,
                text: String::from_utf8_lossy(&bytes).into_owned(),
            })
        };
        timeout(PATIENCE, exchange).await.ok().flatten().ok_or(Gone)
    }

    /// `GET`.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Result<Answer, Gone> {
        self.send(Method::GET, path, headers, Bytes::new()).await
    }

    /// Sends a form.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn form(&mut self, path: &str, pairs: &[(&str, &str)], headers: &[(&str, &str)]) -> Result<Answer, Gone> {
        let mut all = vec![("content-type", "application/x-www-form-urlencoded")];
        all.extend_from_slice(headers);
        self.send(Method::POST, path, &all, encoded(pairs)).await
    }
}

/// Pairs as a query or form.
pub(crate) fn encoded(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish()
}

async fn handshake<Io>(io: Io) -> Option<SendRequest<Full<Bytes>>>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(io)).await.ok()?;
    // How it ends shows at the next request.
    tokio::spawn(connection);
    Some(sender)
}
