//! The log holds no secret, code or token, whatever its level.

use std::io;

use base64::Engine as _;
use tracing_subscriber::fmt::MakeWriter;

use super::{
    flow::{FORM, OURS, RESOURCE, VERIFIER, click, field, form, page, refresh, registered, text},
    *,
};

/// A log that is kept in memory.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Kept {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// What went over the wire and is nobody else's business.
#[derive(Default)]
struct Secrets(Vec<(&'static str, String)>);

impl Secrets {
    fn keep(&mut self, what: &'static str, text: impl Into<String>) -> String {
        let text = text.into();
        assert!(text.len() >= 20, "{what} is too short to be searched for: {text}");
        self.0.push((what, text.clone()));
        text
    }
}

/// Page, click, code, tokens, refresh, userinfo, introspection, theft, replay, revocation. Returns the client's id.
async fn use_public_client(rig: &Rig, alice: &mut Client, secrets: &mut Secrets) -> String {
    let id = registered(alice).await;
    let page = page(alice, &id, &[("resource", RESOURCE), ("scope", "openid read")]).await;
    secrets.keep("the ticket", &page.ticket);
    secrets.keep("the cookie", page.cookie.split_once('=').unwrap().1);
    let location = click(alice, &page, &OURS).await.header("location").to_owned();
    let code = secrets.keep("the code", field(&location, "code=", '&'));
    secrets.keep("the code without its name", &code[30..]);
    let mut bob = rig.client(&Node::bob()).await;
    flow::redeem(&mut bob, &id, &code).await;
    let tokens = flow::redeem(alice, &id, &code).await;
    secrets.keep("the id_token", text(&tokens, "id_token"));
    let access = secrets.keep("the access token", text(&tokens, "access_token"));
    let first = secrets.keep("the refresh token", text(&tokens, "refresh_token"));
    let second = refresh(alice, &id, &first).await;
    secrets.keep("its successor", text(&second, "refresh_token"));
    secrets.keep("the second access token", text(&second, "access_token"));
    refresh(&mut bob, &id, &first).await;
    let bearer = format!("Bearer {access}");
    alice
        .send(Method::GET, "/userinfo", &[("authorization", &bearer)], "")
        .await;
    let body = form(&[("token", &access)]);
    alice.send(Method::POST, "/introspect", &[FORM], body).await;
    flow::redeem(alice, &id, &code).await;
    let body = form(&[("client_id", &id), ("token", &first)]);
    alice.send(Method::POST, "/revoke", &[FORM], body).await;
    id
}

/// Its secret right and wrong, in the form, the header and the query, and its management.
async fn use_confidential_client(alice: &mut Client, secrets: &mut Secrets) {
    let made = alice
        .register(&json!({"redirect_uris": ["https://app.example/cb"], "grant_types": ["client_credentials"]}))
        .await;
    let confidential = text(&made, "client_id");
    let secret = secrets.keep("the client secret", text(&made, "client_secret"));
    let management = secrets.keep("the registration token", text(&made, "registration_access_token"));
    let wrong = secrets.keep("a wrong secret", "wrong-secret-wrong-secret-wrong");
    for secret in [&secret, &wrong] {
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("{confidential}:{secret}"));
        let header = format!("Basic {basic}");
        secrets.0.push(("HTTP Basic", basic));
        let grant = form(&[("grant_type", "client_credentials"), ("resource", RESOURCE)]);
        let answer = alice
            .send(
                Method::POST,
                "/token",
                &[FORM, ("authorization", &header)],
                grant.clone(),
            )
            .await;
        if answer.status == StatusCode::OK {
            secrets.keep("the machine's token", text(&answer, "access_token"));
        }
        let in_form = format!(
            "{grant}&{}",
            form(&[("client_id", &confidential), ("client_secret", secret)])
        );
        alice.send(Method::POST, "/token", &[FORM], in_form.clone()).await;
        alice
            .send(Method::POST, &format!("/token?{in_form}"), &[FORM], "")
            .await;
        alice.get(&format!("/nowhere?{in_form}")).await;
    }
    let path = format!("/register/{confidential}");
    for token in [management, wrong] {
        let bearer = format!("Bearer {token}");
        alice.send(Method::GET, &path, &[("authorization", &bearer)], "").await;
    }
}

#[tokio::test]
async fn a_trace_of_the_whole_flow_holds_no_secret_code_or_token() {
    let log = Kept::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .finish();
    // For the whole process: what other tests have asked first would stay silent otherwise. Their lines do no harm.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let rig = Rig::start(config()).await;
    let node = flow::alice();
    let mut alice = rig.client(&node).await;
    let mut secrets = Secrets::default();
    secrets.keep("the PKCE verifier", VERIFIER);
    secrets.keep("the server's secret", &**rig.server.app().secret.to_text());

    let id = use_public_client(&rig, &mut alice, &mut secrets).await;
    use_confidential_client(&mut alice, &mut secrets).await;
    // And what the tailnet's withdrawal says.
    let code = flow::code(&mut alice, &id, &[("resource", RESOURCE)]).await;
    flow::redeem(&mut alice, &id, &secrets.keep("another code", code)).await;
    node.facts.lock().policy = Policy::default();
    rig.nodes.announce();
    tokio::time::sleep(Duration::from_millis(100)).await;

    let log = String::from_utf8(log.0.lock().clone()).unwrap();
    for heard in ["DEBUG", "request_id", "tokens issued", "grant_ended"] {
        assert!(log.contains(heard), "{heard} is heard");
    }
    for (what, secret) in &secrets.0 {
        assert!(!log.contains(secret), "{what} is in the log");
        // Neither the part of a token that is its secret.
        if let Some(signature) = secret.rsplit('.').next().filter(|part| part.len() < secret.len()) {
            assert!(!log.contains(signature), "the signature of {what} is in the log");
        }
    }
    let audit = rig.store.audit(None, 1000).await.unwrap();
    for (_, line) in audit {
        for (what, secret) in &secrets.0 {
            assert!(!line.contains(secret), "{what} is in the audit trail");
        }
    }
}
