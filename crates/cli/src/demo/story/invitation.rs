//! What stays up for the person at the terminal, and the lines to type.

use std::{io, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::{pki_types::CertificateDer, server::ParsedCertificate};
use sha2::{Digest as _, Sha256};
use tailnet_testkit::Socks5;

use super::{
    Stage,
    registration::{METADATA, REGISTER, shortest_metadata},
};
use crate::demo::{
    BoxError,
    app::App,
    client::Client,
    people::{self, ALICE, BOB},
    transcript::Transcript,
};

/// The proxies that speak for alice and bob; they end with it.
pub(in crate::demo) struct Invitation {
    _root: PathBuf,
    _proxies: [Socks5; 2],
}

impl Invitation {
    /// Starts the proxies and says what to type.
    pub(super) async fn write<W: io::Write>(
        stage: &Stage,
        app: &App,
        out: &mut Transcript<W>,
    ) -> Result<Self, BoxError> {
        let root = stage.folder.path().join("root.pem");
        std::fs::write(&root, stage.idp.root())?;
        let alice = people::proxy(&stage.alice, 1081).await?;
        let bob = people::proxy(&stage.bob, 1082).await?;
        let key = shown_key(stage).await?;
        out.section("Now you: the tailnet stays up until Ctrl-C");
        out.note("A SOCKS proxy speaks for each of them. They are open to every user of this");
        out.note("machine, and end with this process, as everything here does.");
        for (person, proxy, expect) in [
            (&ALICE, &alice, "consent, and what the app gets"),
            (&BOB, &bob, "whose client it is, and why he may not use it"),
        ] {
            out.line("");
            out.note(format_args!("In a browser as {}: {expect}", person.name));
            let profile = stage.folder.path().join(person.name).join("browser");
            for line in browser(&profile.display().to_string(), proxy, &key, app) {
                out.line(&line);
            }
        }
        let host = stage.idp.host();
        let metadata = shortest_metadata();
        for (person, proxy, expect) in [(&ALICE, &alice, "a client"), (&BOB, &bob, "403 and two remedies")] {
            out.line("");
            out.note(format_args!(
                "With curl as {}: the metadata, then {expect}",
                person.name
            ));
            let curl = format!(
                "curl --socks5-hostname {} --cacert {} \\",
                proxy.address(),
                root.display()
            );
            out.line(&curl);
            out.line(&format!("  https://{host}{METADATA}"));
            out.line(&curl);
            out.line("  -H 'Content-Type: application/json' \\");
            out.line(&format!("  -d '{metadata}' \\"));
            out.line(&format!("  https://{host}{REGISTER}"));
        }
        out.line("");
        Ok(Self {
            _root: root,
            _proxies: [alice, bob],
        })
    }
}

/// The lines that open the application in a browser of its own, which trusts one key of the server and nothing else
/// that it would not trust anyway.
fn browser(profile: &str, proxy: &Socks5, key: &str, app: &App) -> Vec<String> {
    let mut lines = vec![
        format!("chromium --user-data-dir={profile} --no-first-run"),
        format!("  --proxy-server=socks5://{}", proxy.address()),
        format!("  --ignore-certificate-errors-spki-list={key}"),
        format!("  http://{}/", app.address()),
    ];
    if rustix::process::geteuid().is_root() {
        // Chromium's sandbox refuses to run as root.
        lines[0].push_str(" --no-sandbox");
    }
    let last = lines.len() - 1;
    lines[..last].iter_mut().for_each(|line| line.push_str(" \\"));
    lines
}

/// The SHA-256 of the public key in the server's certificate, as Chromium's flag wants it. The flag looks at the
/// certificates that the server sends, and a root is not among those.
async fn shown_key(stage: &Stage) -> Result<String, BoxError> {
    let client = Client::connect(&stage.alice, stage.idp.host(), stage.idp.root()).await?;
    let certificate: &CertificateDer<'_> = client.certificate().ok_or("the server showed no certificate")?;
    let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    Ok(STANDARD.encode(Sha256::digest(&key)))
}
