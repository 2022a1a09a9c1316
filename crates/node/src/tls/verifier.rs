//! How the certificate of a DERP relay is judged (Go: `net/tlsdial`).
//!
//! Relays append a "meta certificate" to their chain, which names their node key and is signed by nobody. It is taken
//! out before anything else looks at the chain.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use tailnet_wire::control::DerpNode;

use super::TlsError;

/// How a pinned leaf is written in the DERP map: this and 64 hex digits.
const PIN_PREFIX: &str = "sha256-raw:";
/// What the common name of a meta certificate begins with; the relay's node key in hex follows.
const META_PREFIX: &str = "derpkey";

/// What the DERP map demands of a relay's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rule {
    /// A chain to a trusted root, for this name or else for the host name that was dialled.
    Chain(Option<ServerName<'static>>),
    /// Exactly this leaf (SHA-256 of its DER), in date and for the host name that was dialled.
    Pin([u8; 32]),
    /// Anything. Only tests set this.
    Anything,
}

impl Rule {
    pub(super) fn of(node: &DerpNode) -> Result<Self, TlsError> {
        if node.insecure_for_tests {
            return Ok(Rule::Anything);
        }
        if node.cert_name.is_empty() {
            return Ok(Rule::Chain(None));
        }
        let wrong = || TlsError::CertName(node.cert_name.clone());
        if let Some(digits) = node.cert_name.strip_prefix(PIN_PREFIX) {
            let mut pin = [0; 32];
            hex::decode_to_slice(digits, &mut pin).map_err(|_| wrong())?;
            return Ok(Rule::Pin(pin));
        }
        let name = ServerName::try_from(node.cert_name.clone()).map_err(|_| wrong())?;
        Ok(Rule::Chain(Some(name)))
    }
}

/// Judges a relay's certificate by one [`Rule`]. Possession of the certificate's key is proven in every case.
#[derive(Debug)]
pub(super) struct DerpVerifier {
    rule: Rule,
    webpki: Arc<WebPkiServerVerifier>,
}

impl DerpVerifier {
    pub(super) fn new(rule: Rule, webpki: Arc<WebPkiServerVerifier>) -> Self {
        Self { rule, webpki }
    }
}

impl ServerCertVerifier for DerpVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain: Vec<_> = intermediates.iter().filter(|cert| !is_meta(cert)).cloned().collect();
        match &self.rule {
            Rule::Anything => Ok(ServerCertVerified::assertion()),
            Rule::Chain(name) => self
                .webpki
                .verify_server_cert(leaf, &chain, name.as_ref().unwrap_or(host), ocsp, now),
            Rule::Pin(pin) => verify_pin(pin, leaf, &chain, host, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

fn verify_pin(
    pin: &[u8; 32],
    leaf: &CertificateDer<'_>,
    chain: &[CertificateDer<'_>],
    host: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, Error> {
    if !chain.is_empty() || Sha256::digest(leaf)[..] != pin[..] {
        return Err(CertificateError::ApplicationVerificationFailure.into());
    }
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).map_err(|_| CertificateError::BadEncoding)?;
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if seconds < parsed.validity().not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if seconds > parsed.validity().not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    verify_server_name(&ParsedCertificate::try_from(leaf)?, host)?;
    Ok(ServerCertVerified::assertion())
}

fn is_meta(cert: &CertificateDer<'_>) -> bool {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(cert) else {
        return false;
    };
    let mut names = parsed.subject().iter_common_name();
    names.any(|name| name.as_str().is_ok_and(|name| name.starts_with(META_PREFIX)))
}
