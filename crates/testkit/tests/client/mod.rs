//! A control client that does as it is told, also what no node would do.

use std::{io, sync::Arc};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Incoming, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rand::SeedableRng;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::{Value, json};
use tailnet_testkit::Tailnet;
use tailnet_wire::{
    control::ServerKeys,
    key::{MachinePrivate, MachinePublic, NodePrivate},
    mapframe::{Compression, MapFrames},
    noise::{Early, Initiator},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// A TLS connection that trusts the tailnet's CA and nothing else.
pub(crate) struct Tls {
    pub(crate) io: TlsStream<TcpStream>,
}

impl Tls {
    pub(crate) async fn connect(tailnet: &Tailnet, url: &str) -> Self {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(tailnet.ca_pem().as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let address = url.trim_start_matches("https://");
        let socket = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let io = TlsConnector::from(Arc::new(config))
            .connect(name, socket)
            .await
            .unwrap();
        Self { io }
    }

    /// Sends one GET and reads to the end.
    pub(crate) async fn get(mut self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        self.io.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        self.io.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

pub(crate) struct Client(SendRequest<Full<Bytes>>);

impl Client {
    pub(crate) async fn connect(tailnet: &Tailnet, machine: &MachinePrivate, version: u16) -> io::Result<Self> {
        let answer = Tls::connect(tailnet, tailnet.control_url())
            .await
            .get("/key?v=119")
            .await;
        let keys: ServerKeys = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        Self::connect_to(tailnet, &keys.public_key.unwrap(), machine, version).await
    }

    pub(crate) async fn connect_to(
        tailnet: &Tailnet,
        server: &MachinePublic,
        machine: &MachinePrivate,
        version: u16,
    ) -> io::Result<Self> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};

        let mut tls = Tls::connect(tailnet, tailnet.control_url()).await.io;
        let mut rng = rand::rngs::StdRng::from_seed([1; 32]);
        let (initiator, initiation) = Initiator::new(version, machine, server, &mut rng).unwrap();
        let request = format!(
            "POST /ts2021 HTTP/1.1\r\nHost: x\r\nUpgrade: tailscale-control-protocol\r\nConnection: upgrade\r\n\
             X-Tailscale-Handshake: {}\r\n\r\n",
            STANDARD.encode(initiation)
        );
        tls.write_all(request.as_bytes()).await?;
        let mut buffer = BytesMut::new();
        let head = loop {
            if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break buffer.split_to(end + 4);
            }
            read(&mut tls, &mut buffer).await?;
        };
        assert!(head.starts_with(b"HTTP/1.1 101"), "{head:?}");
        let response = loop {
            match Initiator::take_response(&mut buffer).map_err(io::Error::other)? {
                Some(response) => break response,
                None => read(&mut tls, &mut buffer).await?,
            }
        };
        let mut transport = initiator.finish(&response).map_err(io::Error::other)?;
        let mut early = BytesMut::new();
        while matches!(Early::take(&mut early).map_err(io::Error::other)?, Early::Incomplete) {
            match transport.open(&mut buffer).map_err(io::Error::other)? {
                Some(plain) => early.extend_from_slice(&plain),
                None => read(&mut tls, &mut buffer).await?,
            }
        }
        let (ours, stream) = tokio::io::duplex(64 << 10);
        tokio::spawn(pump(tls, transport, buffer, early, ours));
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    async fn send(&mut self, path: &str, body: &str) -> hyper::Response<Incoming> {
        let request = Request::post(format!("https://control{path}"))
            .body(Full::from(body.to_owned()))
            .unwrap();
        self.0.send_request(request).await.unwrap()
    }

    pub(crate) async fn post(&mut self, path: &str, body: &str) -> (u16, String) {
        let response = self.send(path, body).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// Opens a compressed map stream.
    pub(crate) async fn stream(&mut self, key: &NodePrivate) -> Stream {
        let request = json!({
            "Version": 119, "NodeKey": key.public().to_string(), "Stream": true, "KeepAlive": true, "Compress": "zstd",
        });
        let response = self.send("/machine/map", &request.to_string()).await;
        assert_eq!(response.status(), 200);
        Stream {
            body: response.into_body(),
            frames: MapFrames::new(Compression::Zstd),
        }
    }
}

pub(crate) struct Stream {
    body: Incoming,
    frames: MapFrames,
}

impl Stream {
    async fn read(&mut self) -> Option<Value> {
        loop {
            if let Some(json) = self.frames.next().unwrap() {
                return Some(serde_json::from_slice(&json).unwrap());
            }
            let frame = self.body.frame().await?.unwrap();
            self.frames.push(&frame.into_data().unwrap());
        }
    }

    pub(crate) async fn next(&mut self) -> Value {
        self.read().await.expect("the stream ended")
    }

    /// The next message that is not a keepalive.
    pub(crate) async fn next_change(&mut self) -> Value {
        loop {
            let message = self.next().await;
            if message["KeepAlive"] != true {
                return message;
            }
        }
    }

    /// Whether the server ends the stream, perhaps after keepalives.
    pub(crate) async fn ended(&mut self) -> bool {
        while let Some(message) = self.read().await {
            if message["KeepAlive"] != true {
                return false;
            }
        }
        true
    }
}

async fn read(tls: &mut TlsStream<TcpStream>, buffer: &mut BytesMut) -> io::Result<()> {
    if tls.read_buf(buffer).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// Carries plaintext between the HTTP/2 client and the records on the connection.
async fn pump(
    mut tls: TlsStream<TcpStream>,
    mut transport: tailnet_wire::noise::Transport,
    mut buffer: BytesMut,
    early: BytesMut,
    ours: DuplexStream,
) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(ours);
    writer.write_all(&early).await?;
    let mut plain = BytesMut::new();
    loop {
        while let Some(opened) = transport.open(&mut buffer).map_err(io::Error::other)? {
            writer.write_all(&opened).await?;
        }
        tokio::select! {
            result = read(&mut tls, &mut buffer) => result?,
            length = reader.read_buf(&mut plain) => {
                if length? == 0 {
                    return Ok(());
                }
                let mut out = BytesMut::new();
                transport.seal(&plain, &mut out).map_err(io::Error::other)?;
                plain.clear();
                tls.write_all(&out).await?;
                tls.flush().await?;
            }
        }
    }
}
