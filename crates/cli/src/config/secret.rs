//! The pre-auth key: where it may come from, and a type that does not show it.

use std::{fmt, fs, path::Path};

use zeroize::Zeroizing;

use super::{
    layers::Layers,
    parse,
    problem::{Problems, Source},
};

/// The systemd credential that is looked for when nothing names a key file: `LoadCredential=auth_key:...`.
const CREDENTIAL: &str = "auth_key";

/// A file larger than this holds no pre-auth key.
const MAX_LENGTH: u64 = 4096;

/// Text that is wiped from memory when dropped and never printed.
#[derive(Clone)]
pub(crate) struct Secret(Zeroizing<String>);

impl Secret {
    fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.trim().to_owned()))
    }

    /// The secret itself, for the one who must send it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A pre-auth key and, for messages about it, the place it came from.
#[derive(Debug, Clone)]
pub(crate) struct AuthKey {
    pub(crate) secret: Secret,
    pub(crate) source: Source,
}

/// Finds the pre-auth key: a flag or variable that names a file, then `TS_AUTHKEY`, then the configuration file, then
/// the systemd credential. Having none is not wrong: a node that has joined needs none, and a new one can ask for a
/// login in the browser.
pub(super) fn auth_key(layers: &Layers, problems: &mut Problems) -> Option<AuthKey> {
    let mut named: Vec<(bool, AuthKey)> = Vec::new();
    // Every named file is read, as every other bad value is reported.
    for written in layers.written("auth_key_file") {
        let path = written.values.last().map_or("", String::as_str);
        match parse::path(path).and_then(|path| read(&path)) {
            Ok(secret) => {
                let in_file = matches!(written.source, Source::File { .. });
                named.push((
                    in_file,
                    AuthKey {
                        secret,
                        source: written.source.clone(),
                    },
                ));
            }
            Err(text) => problems.add(written.source.clone(), text),
        }
    }
    let mut pick = |in_file| {
        named
            .iter()
            .position(|(f, _)| *f == in_file)
            .map(|index| named.swap_remove(index).1)
    };
    let stronger = pick(false).or_else(|| from_variable(layers));
    stronger
        .or_else(|| pick(true))
        .or_else(|| from_credential(layers, problems))
}

fn from_variable(layers: &Layers) -> Option<AuthKey> {
    let secret = Secret::new(layers.environment.get("TS_AUTHKEY")?);
    (!secret.expose().is_empty()).then(|| AuthKey {
        secret,
        source: Source::Variable("TS_AUTHKEY".to_owned()),
    })
}

fn from_credential(layers: &Layers, problems: &mut Problems) -> Option<AuthKey> {
    let path = Path::new(layers.environment.get("CREDENTIALS_DIRECTORY")?).join(CREDENTIAL);
    // LoadCredential= fails without its file, so an emptied file is how a key that has been used is taken away.
    if fs::metadata(&path).map_or(true, |file| file.len() == 0) {
        return None;
    }
    let source = Source::Variable("CREDENTIALS_DIRECTORY".to_owned());
    match read(&path) {
        Ok(secret) => Some(AuthKey { secret, source }),
        Err(text) => {
            problems.add(source, text);
            None
        }
    }
}

fn read(path: &Path) -> Result<Secret, String> {
    let cannot = |error: std::io::Error| format!("cannot read the pre-auth key in {}: {error}", path.display());
    if fs::metadata(path).map_err(cannot)?.len() > MAX_LENGTH {
        return Err(format!("{} is too large for a pre-auth key", path.display()));
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(cannot)?);
    let secret = Secret::new(&text);
    match secret.expose() {
        "" => Err(format!("{} is empty: it should hold a pre-auth key", path.display())),
        key if key.contains(char::is_whitespace) => Err(format!(
            "{} holds more than one word: it should hold a pre-auth key alone",
            path.display()
        )),
        _ => Ok(secret),
    }
}
