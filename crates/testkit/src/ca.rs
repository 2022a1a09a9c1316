//! The tailnet's own certificate authority.
//!
//! One root, made at start and kept in memory, signs the certificates of the control server and of the relay. Nodes
//! trust it as they would trust a private CA in production: it is never switched off, also not in tests.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, SerialNumber,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tailnet_wire::{derp, key::NodePublic};

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The certificate library refused.
    #[error("a certificate could not be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refused what the certificate library made.
    #[error("the TLS server could not be configured: {0}")]
    Tls(#[from] rustls::Error),
}

/// A private CA, for the tailnet that made it.
pub(crate) struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Ca {
    pub(crate) fn new() -> Result<Self, CaError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Test tailnet CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self {
            issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)?,
        })
    }

    /// The root in PEM, for `extra_ca_file`, `SSL_CERT_FILE` or `--cacert`.
    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A TLS server for `names` (DNS names or addresses) that speaks HTTP/1.1. Its certificate may be out of date.
    pub(crate) fn server(&self, names: &[&str], expired: bool) -> Result<Arc<ServerConfig>, CaError> {
        let mut params = parameters(names)?;
        if expired {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        self.configure(params, None)
    }

    /// As [`server`](Self::server), with the certificate that relays append to their chain: it names the relay's key
    /// and is signed by nobody, so clients must neither trip over it nor trust it.
    pub(crate) fn relay(&self, names: &[&str], relay_key: &NodePublic) -> Result<Arc<ServerConfig>, CaError> {
        let mut params = CertificateParams::default();
        let digits = relay_key.to_string();
        let digits = digits.trim_start_matches(NodePublic::PREFIX);
        params
            .distinguished_name
            .push(DnType::CommonName, format!("derpkey{digits}"));
        params.serial_number = Some(SerialNumber::from(u64::from(derp::PROTOCOL_VERSION)));
        let meta = params.self_signed(&KeyPair::generate_for(&PKCS_ED25519)?)?;
        self.configure(parameters(names)?, Some(meta.der().clone()))
    }

    fn configure(
        &self,
        params: CertificateParams,
        extra: Option<CertificateDer<'static>>,
    ) -> Result<Arc<ServerConfig>, CaError> {
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &self.issuer)?;
        let mut chain = vec![leaf.der().clone()];
        chain.extend(extra);
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn parameters(names: &[&str]) -> Result<CertificateParams, rcgen::Error> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "Test tailnet");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}
