//! `countersign ca`: the root certificate that clients must trust when TLS is `internal-ca`.

use std::{
    io::{self, Write},
    path::Path,
};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use sha2::{Digest, Sha256};

use super::complain;
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
    let pem = match ask(state_dir, Question::Ca).await {
        Ok(Answer::Ca(pem)) => pem,
        Ok(Answer::Error(text)) => {
            complain(text);
            return Exit::Failed;
        }
        Ok(Answer::Status(_)) => {
            complain("the server answered another question: it is of another version");
            return Exit::Failed;
        }
        Err(error) => {
            complain(&error);
            return if matches!(error, AskError::NotRunning(_)) {
                Exit::NotRunning
            } else {
                Exit::Failed
            };
        }
    };
    let Some(fingerprint) = fingerprint(&pem) else {
        complain("the server sent no certificate: look at its log");
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

/// SHA-256 of the DER, in the notation of `openssl x509 -fingerprint -sha256`.
fn fingerprint(pem: &str) -> Option<String> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let bytes: Vec<_> = Sha256::digest(&der).iter().map(|byte| format!("{byte:02X}")).collect();
    Some(bytes.join(":"))
}
