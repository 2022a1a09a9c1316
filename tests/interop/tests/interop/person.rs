//! People and applications of the token tests: what each sends, in the order in which a real one does.

use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_interop_tests::{Browser, Client, Curl, Loopback, Response, Result, Server};
use serde_json::{Value, json};
use url::form_urlencoded;

/// PKCE (RFC 7636 appendix B).
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// A machine, and the server as it is reached from there.
pub(crate) struct Person<'a> {
    pub(crate) client: &'a Client,
    pub(crate) server: &'a Server<'a>,
    ca: PathBuf,
}

impl<'a> Person<'a> {
    /// Waits until the two know each other.
    pub(crate) fn at(client: &'a Client, server: &'a Server<'a>) -> Result<Person<'a>> {
        server.await_client(client)?;
        let ca = server.ca()?;
        Ok(Person { client, server, ca })
    }

    pub(crate) fn get(&self, path: &str) -> Curl<'a> {
        self.client
            .curl(&format!("{}{path}", self.server.url()))
            .trust(&self.ca)
    }

    pub(crate) fn post(&self, path: &str, form: &[(&str, &str)]) -> Result<Response> {
        self.get(path).form(form).send()
    }
}

/// A registered client and the program behind it.
pub(crate) struct Application {
    pub(crate) id: String,
    secret: Option<String>,
    redirect: String,
    loopback: Option<Loopback>,
}

impl Application {
    /// A program on this person's machine: a public client that waits on loopback.
    pub(crate) fn native(person: &Person) -> Result<Application> {
        let loopback = Loopback::listen(person.client.host())?;
        let metadata = json!({
            "client_name": "lab client", "token_endpoint_auth_method": "none",
            // Without a port, as Claude Code registers it.
            "redirect_uris": ["http://127.0.0.1/callback"],
            "grant_types": ["authorization_code", "refresh_token"],
        });
        let redirect = loopback.redirect_uri();
        Application::register(person, &metadata, redirect, Some(loopback))
    }

    /// A web application on this machine, with a secret.
    pub(crate) fn confidential(machine: &Person, redirect: &str) -> Result<Application> {
        let metadata = json!({
            "client_name": "lab web application", "token_endpoint_auth_method": "client_secret_basic",
            "redirect_uris": [redirect], "grant_types": ["authorization_code", "refresh_token"],
            "post_logout_redirect_uris": [format!("{redirect}/bye")],
        });
        Application::register(machine, &metadata, redirect.to_owned(), None)
    }

    fn register(
        person: &Person,
        metadata: &Value,
        redirect: String,
        loopback: Option<Loopback>,
    ) -> Result<Application> {
        let made = person.get("/register").json(metadata).send()?;
        assert_eq!(made.status, 201, "{made:?}\n{}", person.server.recent_log());
        Ok(Application {
            id: made.field("client_id"),
            secret: Some(made.field("client_secret")).filter(|secret| !secret.is_empty()),
            redirect,
            loopback,
        })
    }

    /// The link that the application opens.
    pub(crate) fn authorize_path(&self, extra: &[(&str, &str)]) -> String {
        let mut pairs = vec![
            ("response_type", "code"),
            ("client_id", &self.id),
            ("redirect_uri", &self.redirect),
            ("state", "af0ifjsldkj"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ];
        pairs.extend_from_slice(extra);
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(pairs)
            .finish();
        format!("/authorize?{query}")
    }

    /// The page that this person sees.
    pub(crate) fn ask(&self, person: &Person, extra: &[(&str, &str)]) -> Result<Response> {
        Browser::new(person.client, person.server)?.open(&self.authorize_path(extra))
    }

    /// The code that a person's click brings to the loopback listener.
    pub(crate) fn code(&self, person: &Person, extra: &[(&str, &str)]) -> Result<String> {
        let browser = Browser::new(person.client, person.server)?;
        let page = browser.open(&self.authorize_path(extra))?;
        Ok(code_of(&self.clicked(person, &browser, &page)?))
    }

    /// The query with which the click on this page brings the browser back.
    pub(crate) fn clicked(&self, person: &Person, browser: &Browser, page: &Response) -> Result<String> {
        let (status, log) = (page.status, || person.server.recent_log());
        assert_eq!(status, 200, "{page:?}\n{}", log());
        let back = browser.click_through(page, "/authorize/consent", &[("choice", "allow")])?;
        assert!(back.body.contains("Back in the application"), "{back:?}\n{}", log());
        self.loopback.as_ref().expect("a native application").answer()
    }

    /// Redeems a code from this person's machine.
    pub(crate) fn redeem(&self, person: &Person, code: &str) -> Result<Response> {
        self.token(
            person,
            &[
                ("grant_type", "authorization_code"),
                ("code", code),
                ("redirect_uri", &self.redirect),
                ("code_verifier", VERIFIER),
            ],
        )
    }

    /// Refreshes from this person's machine.
    pub(crate) fn refresh(&self, person: &Person, token: &str) -> Result<Response> {
        self.token(person, &[("grant_type", "refresh_token"), ("refresh_token", token)])
    }

    /// All of it: page, click, code, tokens.
    pub(crate) fn tokens(&self, person: &Person, extra: &[(&str, &str)]) -> Result<Response> {
        let tokens = self.redeem(person, &self.code(person, extra)?)?;
        assert_eq!(tokens.status, 200, "{tokens:?}\n{}", person.server.recent_log());
        Ok(tokens)
    }

    fn token(&self, person: &Person, form: &[(&str, &str)]) -> Result<Response> {
        let request = person.get("/token").form(form);
        match &self.secret {
            Some(secret) => request.basic(&self.id, secret),
            None => request.form(&[("client_id", &self.id)]),
        }
        .send()
    }
}

/// A parameter of a query, or of a URL's query.
pub(crate) fn parameter(query: &str, name: &str) -> Option<String> {
    let query = query.split_once('?').map_or(query, |(_, query)| query);
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs
        .find(|(found, _)| found == name)
        .map(|(_, value)| value.into_owned())
}

/// The code of an answer.
pub(crate) fn code_of(query: &str) -> String {
    parameter(query, "code").unwrap_or_else(|| panic!("no code: {query}"))
}

/// The claims of a signed token, not verified: the tests ask what the server says, not whether it signs well.
pub(crate) fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap_or_else(|| panic!("no JWT: {token:?}"));
    let bytes = URL_SAFE_NO_PAD.decode(part).expect("base64url");
    serde_json::from_slice(&bytes).expect("claims are JSON")
}
