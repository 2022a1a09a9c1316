//! The steps of the demo, and what stays up after them.

mod edits;
mod invitation;
mod registration;
mod tokens;
mod words;

use std::{io, sync::Arc, time::Duration};

use tailnet_node::Node;
use tailnet_testkit::{Tailnet, TailnetConfig};
use tempfile::TempDir;

use self::invitation::Invitation;
use super::{
    app::App,
    echo::Echo,
    people::{self, ALICE, BOB, Person},
    server::Idp,
    transcript::{Outcome, StepFailed, Transcript},
};

/// A tailnet on which everything has been shown.
pub(super) struct Story {
    stage: Stage,
    app: App,
}

/// The tailnet and who is on it.
struct Stage {
    tailnet: Tailnet,
    folder: TempDir,
    idp: Idp,
    echo: Echo,
    alice: Arc<Node>,
    bob: Arc<Node>,
}

impl Story {
    /// Shows everything.
    pub(super) async fn tell<W: io::Write>(out: &mut Transcript<W>) -> Result<Self, StepFailed> {
        out.title("Countersign: who is on the tailnet is who may register, consent and use a token");
        out.line("A whole tailnet in this process. Loopback only, no root, nothing is installed.");
        let stage = Stage::set(out).await?;
        let (mut alice, client_id) = registration::alice_registers(&stage, out).await?;
        let mut bob = registration::bob_is_refused(&stage, out).await?;
        let (app, consented) = tokens::alice_consents(&stage, out, &mut alice, &client_id).await?;
        let refresh = tokens::the_code_is_hers(&stage, out, &app, &consented, &mut alice, &mut bob).await?;
        let cut = edits::the_policy_changes(&stage, out, &app, &mut alice, refresh).await?;
        moral(out, cut);
        Ok(Self { stage, app })
    }

    /// Starts the proxies and says what to type.
    pub(super) async fn invite<W: io::Write>(&self, out: &mut Transcript<W>) -> Result<Invitation, super::BoxError> {
        Invitation::write(&self.stage, &self.app, out).await
    }

    /// Takes everything down.
    pub(super) async fn end(self, grace: Duration) {
        let Self { mut stage, app } = self;
        drop(app);
        tokio::join!(
            stage.alice.shutdown(grace),
            stage.bob.shutdown(grace),
            stage.echo.end(grace),
            stage.idp.end()
        );
        stage.tailnet.shutdown().await;
    }
}

impl Stage {
    async fn set<W: io::Write>(out: &mut Transcript<W>) -> Result<Self, StepFailed> {
        out.section("A tailnet comes up");
        let (tailnet, folder) = out.step("control server, DERP relay and STUN", start_tailnet()).await?;
        let serve = async {
            let idp = Idp::start(&tailnet, folder.path()).await?;
            tailnet.wait_online("idp", people::PATIENCE).await?;
            let words = format!("{}  {}", idp.address(), people::IDP_TAG);
            Ok((idp, words))
        };
        let idp = out.step("idp, the server, joins and serves", serve).await?;
        let protect = async {
            let echo = Echo::start(&tailnet, folder.path(), &idp).await?;
            let words = format!("{}  {}", echo.address(), people::ECHO_TAG);
            Ok((echo, words))
        };
        let echo = out.step("echo joins: it wants a token", protect).await?;
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
            echo,
            alice,
            bob,
        })
    }
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

/// Says in plain words what was proved.
fn moral<W: io::Write>(out: &mut Transcript<W>, cut: Duration) {
    out.line("");
    out.title("What this proved");
    let lines = [
        "Nobody typed a password. The server knew alice and bob by the WireGuard key that",
        "decrypted their packets; her click was all that it needed.",
        "A code, a refresh token or an access token of hers opens nothing from bob's node.",
        "Who may do what is a line of tailnet policy, read at every request: an edit counts",
        "at once, for tokens that were issued before and on connections that are open.",
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
