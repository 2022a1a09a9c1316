//! A certificate authority for one host.
//!
//! The root is made at first start and kept in the store. It vouches for the issuer's host and short name and, by its
//! critical name constraints, for nothing else, so trusting it on a machine gives this server no power over other
//! sites. Leaves live only in memory.

use std::sync::Arc;

use arc_swap::ArcSwap;
use countersign_oauth::audit::AuditRecord;
use countersign_store::{CommitError, Record, Store, StoreError};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer as Signer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256,
    SerialNumber,
};
use rustls::{crypto::aws_lc_rs, pki_types::CertificateDer, sign::CertifiedKey};
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use super::TlsError;
use crate::{clock, issuer::Issuer};

const ROOT_LIFETIME: Duration = Duration::days(3650);
const LEAF_LIFETIME: Duration = Duration::days(90);
/// Clocks of clients may be behind.
const BACKDATED: Duration = Duration::hours(1);

pub(super) struct InternalCa {
    names: [String; 2],
    root_pem: String,
    signer: Signer<'static, KeyPair>,
    root: CertificateDer<'static>,
    renew_at: ArcSwap<OffsetDateTime>,
}

/// The root as it is stored.
#[derive(Serialize, Deserialize)]
struct Root {
    host: String,
    certificate_pem: String,
    #[serde(with = "crate::wiped")]
    key_pem: Zeroizing<String>,
}

impl Record for Root {
    const TABLE: &'static str = "server";
    const FORMAT: u16 = 1;

    fn id(&self) -> Vec<u8> {
        ID.into()
    }
}

const ID: &[u8] = b"internal-ca";

/// Whether a root was made already.
pub(crate) async fn has_root(store: &Store) -> Result<bool, StoreError> {
    Ok(store.reads().get::<Root>(ID).await?.is_some())
}

/// The stored internal root as PEM, for when the server is not running; `None` when it never made one.
///
/// # Errors
/// [`StoreError`] when the store cannot be read.
pub async fn stored_root_pem(store: &Store) -> Result<Option<String>, StoreError> {
    Ok(store.reads().get::<Root>(ID).await?.map(|root| root.certificate_pem))
}

fn failed(error: impl ToString) -> TlsError {
    TlsError::InternalCa(error.to_string())
}

impl InternalCa {
    /// The stored root, or a new one when there is none for this host.
    pub(super) async fn open(store: &Store, issuer: &Issuer, now: OffsetDateTime) -> Result<Self, TlsError> {
        loop {
            let mut reads = store.reads();
            let stored = reads.get::<Root>(ID).await?;
            if let Some(root) = stored.filter(|root| root.host == issuer.host()) {
                return Self::from_root(&root, issuer);
            }
            let root = make_root(issuer, now)?;
            let mut txn = reads.into_txn();
            txn.put(&root)?;
            txn.audit(&AuditRecord::own("internal_ca_made", now).with_detail(issuer.host()))?;
            match store.commit(txn).await {
                Ok(_) => return Self::from_root(&root, issuer),
                // Another process was first: its root is the one.
                Err(CommitError::Conflict(_)) => {}
                Err(CommitError::Store(error)) => return Err(error.into()),
            }
        }
    }

    fn from_root(root: &Root, issuer: &Issuer) -> Result<Self, TlsError> {
        let key = KeyPair::from_pem(&root.key_pem).map_err(failed)?;
        let signer = Signer::from_ca_cert_pem(&root.certificate_pem, key).map_err(failed)?;
        Ok(Self {
            names: [issuer.host().to_owned(), issuer.short_name().to_owned()],
            root_pem: root.certificate_pem.clone(),
            signer,
            root: CertificateDer::from_pem_slice(root.certificate_pem.as_bytes()).map_err(failed)?,
            renew_at: ArcSwap::from_pointee(OffsetDateTime::UNIX_EPOCH),
        })
    }

    /// The same authority, made to issue for another host.
    #[cfg(test)]
    pub(super) fn with_names(mut self, issuer: &Issuer) -> Self {
        self.names = [issuer.host().to_owned(), issuer.short_name().to_owned()];
        self
    }

    pub(super) fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// A new leaf with a new key.
    pub(super) fn issue(&self, now: OffsetDateTime) -> Result<Arc<CertifiedKey>, TlsError> {
        let names: Vec<String> = self.names.to_vec();
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name = name(&self.names[0]);
        params.serial_number = Some(serial()?);
        params.not_before = now - BACKDATED;
        params.not_after = now - BACKDATED + LEAF_LIFETIME;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let leaf = params.signed_by(&key, &self.signer).map_err(failed)?;
        let signing = aws_lc_rs::sign::any_supported_type(
            &rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).map_err(failed)?,
        )?;
        self.renew_at.store(Arc::new(now + LEAF_LIFETIME * 2 / 3));
        Ok(Arc::new(CertifiedKey::new(
            vec![leaf.der().clone(), self.root.clone()],
            signing,
        )))
    }

    /// A new leaf once two thirds of the current one's life are over.
    pub(super) fn renew(&self, now: OffsetDateTime) -> Result<Option<Arc<CertifiedKey>>, TlsError> {
        if now < **self.renew_at.load() {
            return Ok(None);
        }
        self.issue(now).map(Some)
    }
}

fn make_root(issuer: &Issuer, now: OffsetDateTime) -> Result<Root, TlsError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&format!("Countersign root of {}", issuer.host()));
    params.serial_number = Some(serial()?);
    params.not_before = now - BACKDATED;
    params.not_after = now + ROOT_LIFETIME;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![
            GeneralSubtree::DnsName(issuer.host().to_owned()),
            GeneralSubtree::DnsName(issuer.short_name().to_owned()),
        ],
        // A constraint on DNS names alone would leave addresses free.
        excluded_subtrees: vec![
            GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([0; 4], 0)),
            GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix([0; 16], 0)),
        ],
    });
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(Root {
        host: issuer.host().to_owned(),
        certificate_pem: certificate.pem(),
        key_pem: Zeroizing::new(key.serialize_pem()),
    })
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    // RFC 5280 allows 64 characters, and long MagicDNS names exceed them; the names that count are the alternative ones.
    name.push(DnType::CommonName, common_name.chars().take(64).collect::<String>());
    name
}

fn serial() -> Result<SerialNumber, TlsError> {
    use rand_core::RngCore as _;
    let mut bytes = [0; 16];
    clock::rng().map_err(failed)?.fill_bytes(&mut bytes);
    // RFC 5280 4.1.2.2: positive, and never zero.
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}
