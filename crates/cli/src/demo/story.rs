//! The steps of the demo, and what stays up after them.

use std::{
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::StatusCode;
use serde_json::{Value, json};
use tailnet_node::Node;
use tailnet_testkit::{Socks5, Tailnet, TailnetConfig};
use tempfile::TempDir;

use super::{
    client::{Answer, Client},
    people::{self, ALICE, BOB, Person},
    server::Idp,
    transcript::{Outcome, StepFailed, Transcript},
};

const METADATA: &str = "/.well-known/oauth-authorization-server";
const REGISTER: &str = "/register";
/// Where words below a step are broken.
const WRAP: usize = 78;

/// A tailnet on which everything has been shown.
pub(super) struct Story {
    tailnet: Tailnet,
    folder: TempDir,
    idp: Idp,
    alice: Arc<Node>,
    bob: Arc<Node>,
}

impl Story {
    /// Shows everything.
    pub(super) async fn tell<W: io::Write>(out: &mut Transcript<W>) -> Result<Self, StepFailed> {
        out.title("Countersign: who is on the tailnet is who may register");
        out.line("A whole tailnet in this process. Loopback only, no root, nothing is installed.");
        let story = Self::begin(out).await?;
        let mut alices = story.alice_registers(out).await?;
        story.bob_is_refused(out).await?;
        let cut = story.the_policy_changes(out, &mut alices).await?;
        moral(out, cut);
        Ok(story)
    }

    async fn begin<W: io::Write>(out: &mut Transcript<W>) -> Result<Self, StepFailed> {
        out.section("A tailnet comes up");
        let (tailnet, folder) = out.step("control server, DERP relay and STUN", start_tailnet()).await?;
        let serve = async {
            let idp = Idp::start(&tailnet, folder.path()).await?;
            tailnet.wait_online("idp", people::PATIENCE).await?;
            let words = format!("{}  {}", idp.address(), people::IDP_TAG);
            Ok((idp, words))
        };
        let idp = out.step("idp, the server, joins and serves", serve).await?;
        let alice = out
            .step("alice joins", people::join(&tailnet, folder.path(), &ALICE))
            .await?;
        let bob = out
            .step("bob joins", people::join(&tailnet, folder.path(), &BOB))
            .await?;
        out.line("");
        out.note("The policy says, in Headscale's and Tailscale's own words:");
        people::GRANTS.lines().skip(1).for_each(|line| out.note(line));
        Ok(Self {
            tailnet,
            folder,
            idp,
            alice,
            bob,
        })
    }

    async fn alice_registers<W: io::Write>(&self, out: &mut Transcript<W>) -> Result<Client, StepFailed> {
        out.section("Alice, an engineer, registers a client");
        let connect = async {
            let client = Client::connect(&self.alice, self.idp.host(), self.idp.root()).await?;
            Ok((client, format!("https://{}", self.idp.host())))
        };
        let mut client = out.step("finds idp by MagicDNS name, over TLS", connect).await?;
        out.step("reads the OAuth metadata", metadata(&mut client, self.idp.issuer()))
            .await?;
        out.step("registers a client (RFC 7591)", registered(&mut client))
            .await?;
        Ok(client)
    }

    async fn bob_is_refused<W: io::Write>(&self, out: &mut Transcript<W>) -> Result<(), StepFailed> {
        out.section("Bob, in sales, may look but not register");
        let connect = async {
            let client = Client::connect(&self.bob, self.idp.host(), self.idp.root()).await?;
            Ok((client, format!("https://{}", self.idp.host())))
        };
        let mut client = out.step("finds idp too", connect).await?;
        out.step("reads the same metadata", metadata(&mut client, self.idp.issuer()))
            .await?;
        let answer = out.step("is refused a client", refused(&mut client)).await?;
        wrap(answer.text("error_description"), WRAP)
            .iter()
            .for_each(|line| out.note(line));
        for remedy in answer.body["remedies"].as_array().into_iter().flatten() {
            let place = format!("remedy: {}", remedy["place"].as_str().unwrap_or_default());
            wrap(&place, WRAP).iter().for_each(|line| out.note(line));
            for line in remedy_lines(&remedy["add"]) {
                out.note(format_args!("    {line}"));
            }
        }
        Ok(())
    }

    /// Gives the time from the edit that withdrew alice's access to the end of her connection.
    async fn the_policy_changes<W: io::Write>(
        &self,
        out: &mut Transcript<W>,
        alices: &mut Client,
    ) -> Result<Duration, StepFailed> {
        out.section("The policy is edited while alice is connected");
        let without_grant = async {
            self.tailnet.set_policy(&people::policy(people::WITHOUT_CAPABILITY))?;
            until(alices, StatusCode::FORBIDDEN).await?;
            Ok(((), "403 on the same connection".to_owned()))
        };
        out.step("loses allow_dcr: is refused at once", without_grant).await?;
        let with_grant = async {
            self.tailnet.set_policy(&people::policy(people::GRANTS))?;
            until(alices, StatusCode::CREATED).await?;
            Ok(((), "201 on the same connection".to_owned()))
        };
        out.step("gets it back: registers again", with_grant).await?;
        let start = Instant::now();
        let cut = async {
            self.tailnet.set_policy(&people::policy(people::WITHOUT_ACCESS))?;
            alices.ended().await;
            Ok((start.elapsed(), "connection reset".to_owned()))
        };
        let cut = out.step("loses access: her connection ends", cut).await?;
        let restore = async {
            self.tailnet.set_policy(&people::policy(people::GRANTS))?;
            let mut again = people::reconnect(&self.alice, self.idp.host(), self.idp.root()).await?;
            let answer = again.get(METADATA).await?;
            Ok(((), answer.status.as_str().to_owned()))
        };
        out.step("the policy is as before: she is back", restore).await?;
        Ok(cut)
    }

    /// Starts the proxies and says what to type.
    pub(super) async fn invite<W: io::Write>(&self, out: &mut Transcript<W>) -> io::Result<Invitation> {
        let root = self.folder.path().join("root.pem");
        std::fs::write(&root, self.idp.root())?;
        let alice = people::proxy(&self.alice, 1081).await?;
        let bob = people::proxy(&self.bob, 1082).await?;
        out.section("Now you: the tailnet stays up until Ctrl-C");
        out.note("A SOCKS proxy speaks for each of them. They are open to every user of this");
        out.note("machine, and end with this process, as everything here does.");
        let host = self.idp.host();
        let metadata = client_metadata();
        for (person, proxy, expect) in [(&ALICE, &alice, "a client"), (&BOB, &bob, "403 and two remedies")] {
            let curl = format!("curl --socks5-hostname {} --cacert {}", proxy.address(), root.display());
            out.line("");
            out.note(format_args!("As {}: the metadata, then {expect}", person.name));
            out.line(&format!("{curl} https://{host}{METADATA}"));
            out.line(&format!(
                "{curl} -H 'Content-Type: application/json' -d '{metadata}' https://{host}{REGISTER}"
            ));
        }
        out.line("");
        Ok(Invitation {
            _root: root,
            _proxies: [alice, bob],
        })
    }

    /// Takes everything down.
    pub(super) async fn end(mut self, grace: Duration) {
        tokio::join!(self.alice.shutdown(grace), self.bob.shutdown(grace), self.idp.end());
        self.tailnet.shutdown().await;
    }
}

/// What stays up for the person at the terminal.
pub(super) struct Invitation {
    _root: PathBuf,
    _proxies: [Socks5; 2],
}

async fn start_tailnet() -> Outcome<(Tailnet, TempDir)> {
    let users = [&ALICE, &BOB].map(Person::user).into();
    let policy = Some(people::policy(people::GRANTS));
    let tailnet = Tailnet::start(TailnetConfig {
        users,
        policy,
        ..TailnetConfig::default()
    })
    .await?;
    let folder = tempfile::Builder::new().prefix("countersign-demo-").tempdir()?;
    let words = tailnet.control_url().trim_start_matches("https://").to_owned();
    Ok(((tailnet, folder), words))
}

async fn metadata(client: &mut Client, issuer: &str) -> Outcome<()> {
    let answer = client.get(METADATA).await?;
    if answer.status != StatusCode::OK || answer.text("issuer") != issuer {
        return Err(unexpected("the metadata of the issuer", &answer));
    }
    Ok(((), format!("200, issuer {}", issuer.trim_start_matches("https://"))))
}

async fn registered(client: &mut Client) -> Outcome<()> {
    let answer = client.post(REGISTER, &client_metadata()).await?;
    let id = answer.text("client_id");
    if answer.status != StatusCode::CREATED || id.is_empty() {
        return Err(unexpected("a client", &answer));
    }
    let short: String = id.chars().take(12).collect();
    Ok(((), format!("201, client_id {short}…")))
}

async fn refused(client: &mut Client) -> Outcome<Answer> {
    let answer = client.post(REGISTER, &client_metadata()).await?;
    if answer.status != StatusCode::FORBIDDEN {
        return Err(unexpected("a refusal", &answer));
    }
    let words = format!("403, {}", answer.text("error"));
    Ok((answer, words))
}

/// Registers until the answer has this status; the policy is on its way to the server.
async fn until(client: &mut Client, status: StatusCode) -> Result<(), super::BoxError> {
    let patience = async {
        loop {
            let answer = client.post(REGISTER, &client_metadata()).await?;
            if answer.status == status {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(5), patience).await {
        Ok(result) => result,
        Err(_) => Err(format!("after 5 s the answer is still not {status}").into()),
    }
}

fn client_metadata() -> Value {
    json!({"client_name": "demo", "redirect_uris": ["http://127.0.0.1:8080/callback"]})
}

fn unexpected(wanted: &str, answer: &Answer) -> super::BoxError {
    format!(
        "{wanted} was expected, but the answer is {} {}",
        answer.status, answer.body
    )
    .into()
}

/// Says in plain words what was proved.
fn moral<W: io::Write>(out: &mut Transcript<W>, cut: Duration) {
    out.line("");
    out.title("What this proved");
    let lines = [
        "Nobody typed a password or showed a token. The server knew alice and bob by the",
        "WireGuard key that decrypted their packets.",
        "Who may register is a line of tailnet policy, read at every request: an edit counts",
        "at once, also on a connection that is already open.",
    ];
    lines.iter().for_each(|line| out.line(&format!("   {line}")));
    out.line(&format!(
        "   Withdrawing access ended an open connection {:.0} ms after the edit.",
        cut.as_secs_f64() * 1000.0
    ));
    out.line("");
    out.title(&format!(
        "{} steps, all as expected, in {:.2} s",
        out.steps(),
        out.elapsed().as_secs_f64()
    ));
}

/// What to add, in the words and the order in which people write it.
fn remedy_lines(add: &Value) -> Vec<String> {
    if let Some(text) = add.as_str() {
        return vec![text.to_owned()];
    }
    if [&add["src"], &add["dst"], &add["app"]]
        .iter()
        .any(|part| part.is_null())
    {
        return vec![add.to_string()];
    }
    vec![
        format!(r#"{{"src": {}, "dst": {},"#, add["src"], add["dst"]),
        format!(r#" "app": {}}}"#, add["app"]),
    ]
}

/// Breaks a text at spaces.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_broken_at_spaces() {
        assert_eq!(wrap("one two  three", 8), ["one two", "three"]);
        assert_eq!(wrap("unbreakable", 4), ["unbreakable"]);
        assert!(wrap("", 4).is_empty());
    }
}
