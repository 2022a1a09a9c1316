//! `countersign ca`: the root certificate that clients must trust when TLS is `internal-ca`.

use std::{
    io::{self, Write},
    path::Path,
};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use sha2::{Digest, Sha256};

use super::{complain, offline};
use crate::{
    exit::Exit,
    socket::{
        Answer, Question,
        client::{AskError, ask},
    },
};

/// Prints the PEM on standard output, so that it can be redirected, and the fingerprint on standard error, so that it
/// is seen all the same.
pub(crate) async fn run(state_dir: &Path) -> Exit {
    let pem = match find(state_dir).await {
        Ok(pem) => pem,
        Err((text, exit)) => {
            complain(text);
            return exit;
        }
    };
    let Some(fingerprint) = fingerprint(&pem) else {
        complain("what is stored as the root is no certificate; restore the state folder from a backup");
        return Exit::Failed;
    };
    match io::stdout().write_all(pem.as_bytes()) {
        Ok(()) => {
            eprintln!("SHA-256 {fingerprint}");
            Exit::Done
        }
        Err(error) => {
            complain(format_args!("cannot print the certificate: {error}"));
            Exit::Failed
        }
    }
}

/// From the running server, else from the store.
async fn find(state_dir: &Path) -> Result<String, (String, Exit)> {
    match ask(state_dir, Question::Ca).await {
        Ok(Answer::Ca(pem)) => Ok(pem),
        Ok(Answer::Error(text)) => Err((text, Exit::Failed)),
        Ok(_) => Err((
            "the server answered another question: it is of another version".into(),
            Exit::Failed,
        )),
        Err(AskError::NotRunning(_)) => stored(state_dir).await,
        Err(error) => Err((error.to_string(), Exit::Failed)),
    }
}

async fn stored(state_dir: &Path) -> Result<String, (String, Exit)> {
    let opened = offline::open(state_dir)
        .await
        .map_err(|error| (error.to_string(), error.exit()))?;
    let root = countersign_server::stored_root_pem(opened.store()).await;
    opened.close().await;
    match root {
        Ok(Some(pem)) => Ok(pem),
        Ok(None) => Err((
            "no internal root was made here: certificates come from files, or TLS is off".into(),
            Exit::Failed,
        )),
        Err(error) => Err((error.to_string(), Exit::Failed)),
    }
}

/// SHA-256 of the DER, in the notation of `openssl x509 -fingerprint -sha256`.
fn fingerprint(pem: &str) -> Option<String> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let bytes: Vec<_> = Sha256::digest(&der).iter().map(|byte| format!("{byte:02X}")).collect();
    Some(bytes.join(":"))
}
