//! A chain and key in PEM files that somebody else renews.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustls::{crypto::aws_lc_rs, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::TlsError;

/// The two files, and how they looked when they were read last.
#[derive(Debug, Clone)]
pub(super) struct Files {
    certificate: PathBuf,
    key: PathBuf,
    host: String,
    seen: Option<[Stamp; 2]>,
}

type Stamp = (u64, Option<SystemTime>);

impl Files {
    pub(super) fn new(certificate: PathBuf, key: PathBuf, host: &str) -> Self {
        Self {
            certificate,
            key,
            host: host.to_owned(),
            seen: None,
        }
    }

    /// Reads both files.
    pub(super) fn load(&mut self) -> Result<Arc<CertifiedKey>, TlsError> {
        // Before reading: a change in between is then seen as one.
        self.seen = Some([stamp(&self.certificate)?, stamp(&self.key)?]);
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(&self.certificate)?)
            .collect::<Result<_, _>>()
            .map_err(|error| content(&self.certificate, &error))?;
        let leaf = chain
            .first()
            .ok_or_else(|| content(&self.certificate, &"it holds no certificate"))?;
        self.check_name(leaf)?;
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?).map_err(|error| content(&self.key, &error))?;
        let signing = aws_lc_rs::sign::any_supported_type(&key).map_err(|error| content(&self.key, &error))?;
        let certified = CertifiedKey::new(chain, signing);
        certified
            .keys_match()
            .map_err(|_| content(&self.key, &"it is not the key of the certificate"))?;
        Ok(Arc::new(certified))
    }

    /// Reads both files again if one has changed.
    pub(super) fn reload(&mut self) -> Result<Option<Arc<CertifiedKey>>, TlsError> {
        if self.seen == Some([stamp(&self.certificate)?, stamp(&self.key)?]) {
            return Ok(None);
        }
        self.load().map(Some)
    }

    fn check_name(&self, leaf: &CertificateDer<'_>) -> Result<(), TlsError> {
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|error| content(&self.certificate, &error))?;
        let names: Vec<&str> = parsed
            .subject_alternative_name()
            .ok()
            .flatten()
            .map(|extension| &extension.value.general_names)
            .into_iter()
            .flatten()
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(*name),
                _ => None,
            })
            .collect();
        if names.iter().any(|name| covers(name, &self.host)) {
            return Ok(());
        }
        Err(TlsError::Name {
            path: self.certificate.clone(),
            host: self.host.clone(),
            names: if names.is_empty() {
                "no DNS name".into()
            } else {
                names.join(", ")
            },
        })
    }
}

/// Whether a certificate's name is `host`, or a wildcard for its first label.
fn covers(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(domain) => host
            .split_once('.')
            .is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(domain)),
        None => name.eq_ignore_ascii_case(host),
    }
}

fn content(path: &Path, reason: &dyn ToString) -> TlsError {
    TlsError::Content {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

fn io(path: &Path, source: std::io::Error) -> TlsError {
    TlsError::Io {
        path: path.to_owned(),
        source,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| io(path, error))
}

fn stamp(path: &Path) -> Result<Stamp, TlsError> {
    let meta = fs::metadata(path).map_err(|error| io(path, error))?;
    Ok((meta.len(), meta.modified().ok()))
}
