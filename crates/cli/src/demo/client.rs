//! The HTTP client by which everybody in the demo asks a server on the tailnet, each over a node of their own.

use std::{sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
    header::{ACCEPT, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use tailnet_node::Node;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use url::form_urlencoded;

use super::BoxError;

/// No answer of the demo's servers is anywhere near this long, in bytes.
const MAX_BODY: usize = 256 << 10;

/// One connection to a server, kept open between requests.
pub(super) struct Client {
    host: String,
    sender: SendRequest<Full<Bytes>>,
    certificate: Option<CertificateDer<'static>>,
}

/// What a server answered.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
    /// The text as JSON, or `null` when it is none.
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
        let shown = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = shown.cloned().map(CertificateDer::into_owned);
        let client = Self::over(tls, host).await?;
        Ok(Self { certificate, ..client })
    }

    /// Dials `host` at port 80: WireGuard encrypts, so plain http is no weaker here.
    pub(super) async fn connect_plain(node: &Node, host: &str) -> Result<Self, BoxError> {
        Self::over(node.dial(&format!("{host}:80")).await?, host).await
    }

    /// Speaks over any byte stream.
    pub(super) async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        host: &str,
    ) -> Result<Self, BoxError> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the connection, which ends with its node at the latest.
        tokio::spawn(connection);
        Ok(Self {
            host: host.to_owned(),
            sender,
            certificate: None,
        })
    }

    /// What the server showed of itself in the TLS handshake.
    pub(super) fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.certificate.as_ref()
    }

    pub(super) async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Result<Answer, BoxError> {
        self.send(Method::GET, path, headers, String::new()).await
    }

    /// Posts JSON.
    pub(super) async fn post(&mut self, path: &str, body: &Value) -> Result<Answer, BoxError> {
        let json = [(CONTENT_TYPE.as_str(), "application/json")];
        self.send(Method::POST, path, &json, body.to_string()).await
    }

    /// Posts a form.
    pub(super) async fn form(
        &mut self,
        path: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Result<Answer, BoxError> {
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        let mut all = vec![(CONTENT_TYPE.as_str(), "application/x-www-form-urlencoded")];
        all.extend_from_slice(headers);
        self.send(Method::POST, path, &all, body).await
    }

    /// Waits until the server, or the tailnet, ends the connection.
    pub(super) async fn ended(&mut self) {
        while self.sender.ready().await.is_ok() && !self.sender.is_closed() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<Answer, BoxError> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, &self.host);
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("accept")) {
            request = request.header(ACCEPT, "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.sender.ready().await?;
        let response = self.sender.send_request(request.body(Full::from(body))?).await?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await?.to_bytes();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
            text: String::from_utf8_lossy(&body).into_owned(),
        })
    }
}

impl Answer {
    /// A string member of the body, or nothing.
    pub(super) fn field(&self, name: &str) -> &str {
        self.body[name].as_str().unwrap_or_default()
    }

    /// A header, or nothing.
    pub(super) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    }

    /// The error for an answer that the story does not expect.
    pub(super) fn instead_of(&self, wanted: &str) -> BoxError {
        format!("{wanted} was expected, but the answer is {} {}", self.status, self.text).into()
    }
}
