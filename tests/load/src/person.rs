//! One person with a browser, beside the load: consents that are to be remembered, and pushed requests that they answer
//! without a click. What was acknowledged of both must be there after the server was killed, and a reference is good
//! for one answer, before and after.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use http::{Method, StatusCode};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};
use serde_json::json;
use tailnet_node::Node;
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    http::{Answer, Connection, Gone, Target, between, encoded},
    oauth::{self, CHALLENGE},
};

/// On the web: where an application on this computer waits, nothing is remembered.
const REDIRECT: &str = "https://notes.example/callback";
/// Each set of these is a consent of its own.
const SCOPES: [&str; 4] = ["profile", "email", "offline_access", "tailnet"];
/// References live for 60 s: one older than this is not asked for any more.
const FRESH: Duration = Duration::from_secs(40);

/// The person, and what was acknowledged.
pub struct Person {
    rng: SmallRng,
    client: String,
    session: Option<String>,
    consents: BTreeSet<String>,
    pushed: Vec<Pushed>,
}

struct Pushed {
    reference: String,
    at: Instant,
    answered: Answered,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answered {
    No,
    /// Asked for, and the server was killed.
    Perhaps,
    Yes,
}

/// The person at work.
pub struct Busy {
    stop: watch::Sender<bool>,
    task: JoinHandle<Person>,
}

impl Busy {
    /// Stops; what the person waits for now is never answered.
    ///
    /// # Panics
    /// When something wrong was seen.
    pub async fn stop(self) -> Person {
        self.stop.send_replace(true);
        self.task.await.expect("the person saw nothing wrong")
    }
}

impl Person {
    /// Somebody who uses a web application that is registered here and has yet to be published.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn new(connection: &mut Connection, seed: u64) -> Self {
        let metadata = json!({
            "client_name": "Notes", "redirect_uris": [REDIRECT], "token_endpoint_auth_method": "none",
            "grant_types": ["authorization_code", "refresh_token"],
        });
        let headers = [("content-type", "application/json")];
        let made = connection.send(Method::POST, "/register", &headers, metadata.to_string());
        Self {
            rng: SmallRng::seed_from_u64(seed),
            client: made.await.expect("it answers").field("client_id"),
            session: None,
            consents: BTreeSet::new(),
            pushed: Vec::new(),
        }
    }

    /// The application.
    pub fn client(&self) -> &str {
        &self.client
    }

    /// Consents that are remembered, and references that were given out.
    pub fn len(&self) -> (usize, usize) {
        (self.consents.len(), self.pushed.len())
    }

    /// Goes on until stopped or the server is gone.
    pub async fn start(mut self, node: &Node, target: &Target) -> Busy {
        let (stop, mut stopped) = watch::channel(false);
        let mut connection = Connection::open(node, target).await;
        let task = tokio::spawn(async move {
            loop {
                let ended = tokio::select! {
                    biased;
                    step = self.step(&mut connection) => step.is_err(),
                    _ = stopped.wait_for(|stopped| *stopped) => true,
                };
                if ended {
                    return self;
                }
            }
        });
        Busy { stop, task }
    }

    async fn step(&mut self, connection: &mut Connection) -> Result<(), Gone> {
        let known: Vec<&String> = self.consents.iter().collect();
        let known = known.choose(&mut self.rng).map(|scope| (*scope).clone());
        match known {
            Some(scope) if self.rng.random_bool(0.6) => self.push(connection, &scope).await,
            _ => self.consent(connection).await,
        }
    }

    /// Asks for a page whatever is remembered, and clicks for good.
    async fn consent(&mut self, connection: &mut Connection) -> Result<(), Gone> {
        let rng = &mut self.rng;
        let words = SCOPES.iter().filter(|_| rng.random_bool(0.5));
        let scope = words.fold("openid".to_owned(), |scope, word| format!("{scope} {word}"));
        let path = format!("/authorize?{}&prompt=consent", encoded(&self.request(&scope)));
        let page = oauth::page_at(connection, &path)
            .await?
            .with_session(self.session.as_deref());
        let (code, session) = oauth::click_and(connection, &page, &[("remember", "yes")]).await?;
        assert!(code.is_some(), "a fresh page gave no code");
        self.session = session.or(self.session.take());
        self.consents.insert(scope);
        Ok(())
    }

    /// Pushes what was consented to, and half of the time opens the reference.
    async fn push(&mut self, connection: &mut Connection, scope: &str) -> Result<(), Gone> {
        let made = connection.form("/par", &self.request(scope), &[]).await?;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
        self.pushed.push(Pushed {
            reference: made.field("request_uri"),
            at: Instant::now(),
            answered: Answered::No,
        });
        if self.rng.random_bool(0.5) {
            let last = self.pushed.len() - 1;
            self.pushed[last].answered = Answered::Perhaps;
            let answer = self.open(connection, &self.pushed[last].reference).await?;
            assert!(gives_code(&answer), "a fresh reference gave no code: {}", answer.text);
            self.pushed[last].answered = Answered::Yes;
        }
        Ok(())
    }

    fn request<'a>(&'a self, scope: &'a str) -> [(&'a str, &'a str); 7] {
        [
            ("response_type", "code"),
            ("client_id", &self.client),
            ("redirect_uri", REDIRECT),
            ("scope", scope),
            ("state", "st"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ]
    }

    async fn open(&self, connection: &mut Connection, reference: &str) -> Result<Answer, Gone> {
        self.navigate(connection, &[("client_id", &self.client), ("request_uri", reference)])
            .await
    }

    async fn navigate(&self, connection: &mut Connection, query: &[(&str, &str)]) -> Result<Answer, Gone> {
        let cookie = self.session.as_deref().unwrap_or_default();
        let headers = [("cookie", cookie), ("sec-fetch-dest", "document")];
        connection
            .get(&format!("/authorize?{}", encoded(query)), &headers)
            .await
    }

    /// Holds the server, which was killed and started again, to what was acknowledged.
    ///
    /// # Panics
    /// When a consent or a reference is lost, or a reference is good twice.
    pub async fn verify(&mut self, connection: &mut Connection) {
        for scope in &self.consents {
            let mut query = self.request(scope).to_vec();
            query.push(("prompt", "none"));
            let answer = self.navigate(connection, &query).await.expect("it answers");
            let told = answer.header("location");
            assert!(
                gives_code(&answer),
                "a consent that was remembered is lost: {told} {}",
                answer.text
            );
        }
        for pushed in std::mem::take(&mut self.pushed) {
            if pushed.at.elapsed() > FRESH {
                continue;
            }
            let answer = self.open(connection, &pushed.reference).await.expect("it answers");
            match pushed.answered {
                Answered::No => assert!(gives_code(&answer), "a reference is lost: {}", answer.text),
                Answered::Perhaps => {}
                Answered::Yes => assert!(!gives_code(&answer), "a reference was good twice"),
            }
            let again = self.open(connection, &pushed.reference).await.expect("it answers");
            assert!(!gives_code(&again), "a reference was good twice");
        }
    }
}

fn gives_code(answer: &Answer) -> bool {
    between(answer.header("location"), "code=", '&').is_some()
}
