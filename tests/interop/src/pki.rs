//! The lab's private certificate authority, made with the openssl command as an administrator would.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, Result, process};

/// A root of its own, which every node of the lab is told to trust.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
}

impl Authority {
    /// Makes the root under `dir`.
    pub fn new(dir: &Path) -> Result<Authority> {
        std::fs::create_dir_all(dir).map_err(Error::io(format!("making {dir:?}")))?;
        openssl(
            dir,
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=lab-root \
             -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign \
             -keyout root.key -out root.pem",
        )?;
        Ok(Authority { dir: dir.to_owned() })
    }

    /// The root certificate's file.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root.pem")
    }

    /// Issues a server certificate for `name` (a DNS name) and its addresses; returns the files of the chain and the key.
    pub fn issue(&self, name: &str, addresses: &[String]) -> Result<(PathBuf, PathBuf)> {
        let mut alternatives = format!("DNS:{name}");
        for address in addresses {
            alternatives.push_str(&format!(",IP:{address}"));
        }
        openssl(
            &self.dir,
            &format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN={name} \
                 -CA root.pem -CAkey root.key -addext subjectAltName={alternatives} \
                 -addext basicConstraints=critical,CA:FALSE -addext extendedKeyUsage=serverAuth \
                 -keyout {name}.key -out {name}.pem"
            ),
        )?;
        Ok((
            self.dir.join(format!("{name}.pem")),
            self.dir.join(format!("{name}.key")),
        ))
    }
}

fn openssl(dir: &Path, args: &str) -> Result {
    process::run(Command::new("openssl").current_dir(dir).args(args.split_whitespace())).map(|_| ())
}
