//! A tailnet with a server, alice's Chromium and a page of bob's that means her harm.
//!
//! Chromium speaks through a SOCKS proxy on alice's node and trusts the server's root by a certificate database of its
//! own; nothing about certificates is switched off. `driver.mjs` drives it, one scenario a run, and prints what was
//! seen as JSON; the tests judge.
#![allow(clippy::expect_used, reason = "helpers of tests")]

mod chromium;
mod demo;
mod evil;
pub mod judge;

use std::{path::PathBuf, sync::Arc};

use countersign_flow_tests::{Client, IDP, Stage};
use countersign_oauth::register::Mode;
use serde_json::{Value, json};
use tailnet_node::Node;
use tailnet_testkit::Socks5;

pub use self::demo::Demo;
use self::{chromium::Chromium, evil::EvilPage};

/// Everything a test needs.
pub struct Scene {
    /// The tailnet and its server.
    pub stage: Stage,
    /// Alice's node.
    pub alice: Arc<Node>,
    /// A client that alice registered, with a loopback redirect.
    pub client_id: String,
    /// One that is published and has its redirect on the web, so that consent to it may be remembered.
    pub web_client_id: String,
    chromium: Chromium,
    evil: EvilPage,
    proxy: Socks5,
}

impl Scene {
    /// Alice reaches the server and bob's page, and may register clients and ask for any resource.
    ///
    /// # Panics
    /// With `could-not-run:` when Chromium or Node.js are missing.
    pub async fn new() -> Self {
        Self::set(true).await
    }

    /// The same with `tls = off`, where Chromium sends no Fetch Metadata and stores no `__Host-` cookie.
    ///
    /// # Panics
    /// As [`Scene::new`].
    pub async fn plain() -> Self {
        Self::set(false).await
    }

    async fn set(https: bool) -> Self {
        let chromium = Chromium::find();
        let rules = r#"[{"allow_dcr": true, "users": ["*"], "resources": ["*"],
                         "countersign": {"publish_clients": true}}]"#;
        let policy = format!(
            r#"{{"tagOwners": {{"{IDP}": ["alice@example.com"]}},
                "grants": [{{"src": ["*"], "dst": ["*"], "ip": ["*"]}},
                           {{"src": ["alice@example.com"], "dst": ["{IDP}"],
                             "app": {{"tailscale.com/cap/tsidp": {rules}}}}}]}}"#
        );
        let stage = if https {
            Stage::start(&policy, Mode::Capability).await
        } else {
            Stage::start_plain(&policy, Mode::Capability).await
        };
        let alice = stage.join("alice", "alice@example.com").await;
        let evil = EvilPage::start(stage.join("evil", "bob@example.com").await).await;
        let mut client = stage.client(&alice).await;
        let metadata = json!({
            "redirect_uris": ["http://127.0.0.1/callback", "http://127.0.0.1/onward", "http://[::1]/callback"],
            "token_endpoint_auth_method": "none", "client_name": "Notes", "grant_types": ["authorization_code", "refresh_token"],
        });
        let client_id = client.register(&metadata).await.field("client_id");
        let metadata = json!({ "redirect_uris": [WEB_REDIRECT], "token_endpoint_auth_method": "none" });
        let web_client_id = client.register(&metadata).await.field("client_id");
        let node = Arc::clone(&alice);
        let resolved = evil.resolver(stage.server().issuer().host());
        let proxy = Socks5::start(0, move |target: String| {
            let (node, target) = (Arc::clone(&node), target.replace(BOBS_DOMAIN, &resolved()));
            async move { node.dial(&target).await.map_err(std::io::Error::other) }
        })
        .await
        .expect("a proxy");
        if let Some(root) = stage.server().root_pem() {
            chromium.trust(root).await;
        }
        Self {
            stage,
            alice,
            client_id,
            web_client_id,
            chromium,
            evil,
            proxy,
        }
    }

    /// A connection as alice's programs make it.
    pub async fn client(&self) -> Client {
        self.stage.client(&self.alice).await
    }

    /// Runs a scenario of `driver.mjs` and returns what it saw.
    ///
    /// # Panics
    /// When it fails or takes too long.
    pub async fn play(&self, scenario: &str) -> Value {
        let setting = json!({
            "issuer": self.stage.server().issuer().as_str(),
            "evil": self.evil.origin(),
            "rebinding": BOBS_DOMAIN,
            "proxy": format!("socks5://{}", self.proxy.address()),
            "client": self.client_id,
            "web": { "client": self.web_client_id, "redirect": WEB_REDIRECT },
            "challenge": CHALLENGE,
            "shots": shots(),
        });
        self.chromium.run(scenario, &setting).await
    }
}

/// A name that bob resolves as he likes, to addresses of the tailnet too.
const BOBS_DOMAIN: &str = "cats.bob.example";
/// Where the published client has its answers sent.
const WEB_REDIRECT: &str = "https://notes.example/callback";
/// A PKCE verifier (RFC 7636 appendix B).
pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// Where screenshots go.
fn shots() -> PathBuf {
    let folder = std::env::var_os("CARGO_TARGET_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = folder.join("screenshots");
    std::fs::create_dir_all(&folder).expect("a folder for screenshots");
    folder
}
