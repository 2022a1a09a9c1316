//! TLS: which certificate is shown, resolved anew for each handshake.
//!
//! A handshake must name the issuer's host or its short name (SNI); anything else gets no certificate. What is shown
//! can be replaced while the server runs: leaves of the internal root are renewed, files are read again when they
//! change.

mod files;
mod internal_ca;

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use countersign_store::{Store, StoreError};
use rustls::{
    ServerConfig as RustlsConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use time::OffsetDateTime;
use tokio_rustls::TlsAcceptor;

pub(crate) use self::internal_ca::has_root;
pub use self::internal_ca::stored_root_pem;
use self::{files::Files, internal_ca::InternalCa};
use crate::{clock::Clock, config::TlsMode, issuer::Issuer};

const CHECK_EVERY: Duration = Duration::from_secs(5);

/// Why there is no certificate to show.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{path}: {reason}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The certificate is for other names.
    #[error("{path} is not for {host}, the host of the issuer, but for {names}")]
    Name {
        /// The file.
        path: PathBuf,
        /// The host that clients will ask for.
        host: String,
        /// The names it is for.
        names: String,
    },
    /// A key or certificate of our own could not be made.
    #[error("the internal certificate authority failed: {0}")]
    InternalCa(String),
    /// TLS itself could not be set up.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// TLS of one server.
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    shown: Arc<Shown>,
    source: Source,
}

enum Source {
    Files(Files),
    InternalCa(Box<InternalCa>),
}

impl Tls {
    /// TLS as `mode` says; `None` when it is off.
    pub(crate) async fn start(
        mode: &TlsMode,
        issuer: &Issuer,
        store: &Store,
        now: OffsetDateTime,
    ) -> Result<Option<Self>, TlsError> {
        let (source, certified) = match mode {
            TlsMode::Off => return Ok(None),
            TlsMode::Files { certificate, key } => {
                let mut files = Files::new(certificate.clone(), key.clone(), issuer.host());
                let certified = files.load()?;
                (Source::Files(files), certified)
            }
            TlsMode::InternalCa => {
                let ca = InternalCa::open(store, issuer, now).await?;
                let certified = ca.issue(now)?;
                (Source::InternalCa(Box::new(ca)), certified)
            }
        };
        let shown = Arc::new(Shown {
            names: [issuer.host().to_owned(), issuer.short_name().to_owned()],
            certified: ArcSwap::new(certified),
        });
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = RustlsConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        // One ticket is enough for the next connection, and half the work of the default two.
        config.send_tls13_tickets = 1;
        Ok(Some(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            shown,
            source,
        }))
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }

    /// The internal root as PEM, when there is one.
    pub(crate) fn root_pem(&self) -> Option<&str> {
        match &self.source {
            Source::InternalCa(ca) => Some(ca.root_pem()),
            Source::Files(_) => None,
        }
    }

    /// Renews and reads again, for ever. What fails is logged, and what was shown before stays.
    pub(crate) async fn keep_fresh(&self, clock: &Clock) {
        let mut files = match &self.source {
            Source::Files(files) => Some(files.clone()),
            Source::InternalCa(_) => None,
        };
        loop {
            tokio::time::sleep(CHECK_EVERY).await;
            let next = match (&self.source, &mut files) {
                (Source::InternalCa(ca), _) => ca.renew(clock.now()).transpose(),
                (Source::Files(_), Some(files)) => files.reload().transpose(),
                (Source::Files(_), None) => None,
            };
            match next {
                None => {}
                Some(Ok(certified)) => {
                    self.shown.certified.store(certified);
                    tracing::info!(event = "certificate_replaced", "a new certificate is shown from now on");
                }
                Some(Err(error)) => {
                    tracing::error!(%error, "the new certificate cannot be used; the one before is still shown");
                }
            }
        }
    }
}

/// What handshakes are shown, and under which names.
struct Shown {
    names: [String; 2],
    certified: ArcSwap<CertifiedKey>,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?;
        let ours = self.names.iter().any(|ours| ours.eq_ignore_ascii_case(name));
        ours.then(|| self.certified.load_full())
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
