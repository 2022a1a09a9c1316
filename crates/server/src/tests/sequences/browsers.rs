//! What browsers do with a link, or the reference to a pushed request: show a page, or bring a code without a click where
//! a consent is remembered.

use super::{clicks::WHOLE_PAGE, clients::WEB, *};

/// How long a session lasts.
const SESSION: i64 = 12 * 3600;
/// How long a consent is remembered.
const REMEMBERED: i64 = 30 * 24 * 3600;
/// How long a reference is good.
const REFERENCE: i64 = 60;
/// Pages that are kept open.
const OPEN: usize = 12;

/// What a client asks of a user.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    pub(super) scopes: Vec<&'static str>,
    pub(super) resources: Vec<&'static str>,
}

/// A request that a client pushed.
pub(super) struct Pushed {
    app: usize,
    asked: Asked,
    reference: String,
    at: i64,
    pub(super) answered: bool,
}

/// How a page says that the application may have this scope.
fn words(scope: &str) -> String {
    match scope {
        "openid" => "know who you are".to_owned(),
        "profile" => "see your name and picture".to_owned(),
        "offline_access" => "go on while you are away".to_owned(),
        other => format!("use <code>{other}</code> there"),
    }
}

fn sorted(list: &[&'static str]) -> BTreeSet<&'static str> {
    list.iter().copied().collect()
}

impl Asked {
    fn pairs(&self, redirect: &str) -> Vec<(&'static str, String)> {
        let mut pairs = vec![
            ("response_type", "code".to_owned()),
            ("redirect_uri", redirect.to_owned()),
            ("state", "s".to_owned()),
            ("code_challenge", CHALLENGE.to_owned()),
            ("code_challenge_method", "S256".to_owned()),
            ("scope", self.scopes.join(" ")),
        ];
        pairs.extend(
            self.resources
                .iter()
                .map(|resource| ("resource", (*resource).to_owned())),
        );
        pairs
    }

    /// What a page shows.
    fn on(html: &str) -> Self {
        let shown = |text: &str| html.contains(text);
        let code = |text: &&'static str| shown(&format!("<code>{text}</code> "));
        Self {
            scopes: SCOPES.iter().copied().filter(|scope| shown(&words(scope))).collect(),
            resources: RESOURCES.iter().copied().filter(code).collect(),
        }
    }
}

impl Sequence {
    fn something(&mut self) -> Asked {
        Asked {
            resources: self.some_of(RESOURCES, 2),
            scopes: self.some_of(SCOPES, 4),
        }
    }

    pub(super) async fn push(&mut self) {
        // Now and then what somebody has consented to for good.
        let known = self.remembered.last().map(|had| (had.app, had.asked.clone()));
        let (app, asked) = match known.filter(|_| self.rng.random_bool(0.5)) {
            Some(known) => known,
            None => match self.some_app() {
                Some(app) => (app, self.something()),
                None => return,
            },
        };
        let node = self.some_node();
        let proof = self.proof(app);
        let app = proof.app;
        let pairs = asked.pairs(self.apps[app].redirect);
        let mut pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let id = self.apps[app].id.clone();
        if self.apps[app].is_confidential() {
            pairs.push(("client_id", &id));
        }
        let Some(answer) = self.send_proven(node, "/par", &proof, &pairs).await else {
            return;
        };
        if answer.status != StatusCode::CREATED {
            return;
        }
        self.must(proof.proven, "a request was pushed without proof");
        self.must(!self.apps[app].deleted, "a client that is gone pushed a request");
        self.note(format!("client {app} pushed {asked:?}"));
        self.issued.insert("a pushed request");
        let reference = answer.json()["request_uri"].as_str().unwrap().to_owned();
        self.pushed.push(Pushed {
            app,
            asked,
            reference,
            at: self.now(),
            answered: false,
        });
    }

    /// Somebody opens a link: a request, or the reference to one.
    pub(super) async fn authorize(&mut self) {
        let node = self.some_node();
        let newest = self.pushed.len().checked_sub(1);
        let pushed = newest.filter(|_| self.rng.random_bool(0.35)).map(|newest| {
            let any = self.rng.random_range(0..=newest);
            if self.rng.random_bool(0.8) { newest } else { any }
        });
        let again = (0..self.remembered.len()).collect::<Vec<_>>();
        let again = again
            .choose(&mut self.rng)
            .copied()
            .filter(|_| self.rng.random_bool(0.5));
        let (node, app, asked) = match (pushed, again) {
            (Some(at), had) => {
                let had = had.map(|had| self.remembered[had].node);
                let app = if self.rng.random_bool(0.9) {
                    Some(self.pushed[at].app)
                } else {
                    self.some_app()
                };
                (
                    had.unwrap_or(node),
                    app.unwrap_or_default(),
                    self.pushed[at].asked.clone(),
                )
            }
            (None, Some(had)) => {
                let had = &self.remembered[had];
                let (home, app, asked) = (had.node, had.app, had.asked.clone());
                (self.mostly(home), app, asked)
            }
            (None, None) => match self.some_app() {
                Some(app) => (node, app, self.something()),
                None => return,
            },
        };
        let link = self.link(app, &asked, pushed);
        let session = self.some_session(node);
        let cookie = session.map_or_else(String::new, |at| self.sessions[at].cookie.clone());
        let whole = self.rng.random_bool(0.9);
        let headers = [("cookie", cookie.as_str()), WHOLE_PAGE];
        let headers = &headers[..if whole { 2 } else { 1 }];
        let Some(answer) = self.send(node, Method::GET, &link, headers, String::new()).await else {
            return;
        };
        let location = answer.header("location");
        if location.contains("code=") {
            let code = field(location, "code=", '&').to_owned();
            self.unasked(node, app, &asked, session.filter(|_| whole), pushed, code);
        } else if answer.status == StatusCode::OK {
            self.asked(node, app, &asked, pushed, &answer);
        }
    }

    /// The link that is opened; beside a reference nothing else counts, so a thief may write what he likes there.
    fn link(&mut self, app: usize, asked: &Asked, pushed: Option<usize>) -> String {
        let mut pairs = vec![("client_id", self.apps[app].id.clone())];
        match pushed {
            Some(at) => {
                pairs.push(("request_uri", self.pushed[at].reference.clone()));
                pairs.push(("scope", SCOPES.join(" ")));
                pairs.push(("resource", RESOURCES[1].to_owned()));
            }
            None => pairs.extend(asked.pairs(self.apps[app].redirect)),
        }
        if self.rng.random_bool(0.2) && pushed.is_none() {
            pairs.push(("prompt", "none".to_owned()));
        }
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
        format!("/authorize?{}", form(&pairs))
    }

    /// Mostly the one of this node's browser, or one that was taken from anywhere.
    pub(super) fn some_session(&mut self, node: usize) -> Option<usize> {
        let own = self.machines[node].session;
        let any: Vec<usize> = (0..self.sessions.len()).collect();
        let any = any.choose(&mut self.rng).copied();
        if self.rng.random_bool(0.9) { own } else { any }
    }

    /// A page was shown.
    fn asked(&mut self, node: usize, app: usize, asked: &Asked, pushed: Option<usize>, answer: &Answer) {
        let shown = Asked::on(&answer.text);
        self.note(format!(
            "{} was asked for client {app}, {shown:?}, pushed {pushed:?}",
            NODES[node].0
        ));
        self.heard(app, pushed);
        self.must(
            shown.scopes.iter().all(|scope| asked.scopes.contains(scope)),
            "the page shows a scope that the client did not ask for",
        );
        self.must(
            sorted(&shown.resources) == self.wanted(app, asked),
            "the page shows other resources than the client asked for",
        );
        let by_admin = self.apps[app].published && self.apps[app].owner != self.owner(node);
        self.shown.push(Shown {
            node,
            owner: self.owner(node),
            app,
            asked: shown,
            pushed,
            by_admin,
            ticket: field(&answer.text, "name=\"ticket\" value=\"", '"').to_owned(),
            cookie: answer.header("set-cookie").split(';').next().unwrap().to_owned(),
            answered: false,
        });
        if self.shown.len() > OPEN {
            self.shown.remove(0);
        }
    }

    /// The resources that a request is for.
    fn wanted(&self, app: usize, asked: &Asked) -> BTreeSet<&'static str> {
        let default = self.apps[app].default_resource.filter(|_| asked.resources.is_empty());
        asked.resources.iter().copied().chain(default).collect()
    }

    /// A request may be heard as it came.
    fn heard(&self, app: usize, pushed: Option<usize>) {
        match pushed.map(|at| &self.pushed[at]) {
            Some(pushed) => {
                self.must(pushed.app == app, "a reference was good for another client");
                self.must(!pushed.answered, "a reference was good after it was answered");
                self.must(self.now() - pushed.at < REFERENCE, "a reference was good too late");
            }
            None => self.must(
                !self.apps[app].pushes,
                "a client that always pushes was heard without that",
            ),
        }
    }

    /// A code came without a click.
    fn unasked(
        &mut self,
        node: usize,
        app: usize,
        asked: &Asked,
        session: Option<usize>,
        pushed: Option<usize>,
        code: String,
    ) {
        self.note(format!(
            "{} was not asked for client {app}, {asked:?}, pushed {pushed:?}",
            NODES[node].0
        ));
        self.heard(app, pushed);
        let (owner, now) = (self.owner(node), self.now());
        let live = session.map(|at| &self.sessions[at]).filter(|session| {
            let own = session.node == node && session.owner == owner;
            own && !session.over && now - session.since < SESSION
        });
        self.must(live.is_some(), "a code came without a click and without a session");
        let since = live.map(|session| session.since);
        let resources = self.wanted(app, asked);
        let scopes = self.left_of(node, app, &asked.scopes, &resources);
        let covers = |had: &&Remembered| {
            let same = (had.node, had.owner, had.app) == (node, owner, app);
            let asked = scopes.is_subset(&sorted(&had.asked.scopes)) && sorted(&had.asked.resources) == resources;
            same && asked && !had.over && now - had.since < REMEMBERED
        };
        self.must(
            self.remembered.iter().any(|had| covers(&had)),
            "a code came without a click for what nobody consented to",
        );
        let client = &self.apps[app];
        self.must(
            client.redirect == WEB && (client.published || self.published_by_rule(client)),
            "a code came without a click for a client that may not be remembered",
        );
        let by_admin = client.published && client.owner != owner;
        if let Some(at) = pushed {
            self.pushed[at].answered = true;
            self.issued.insert("a code without a click for a pushed request");
        }
        self.issued.insert("a code without a click");
        let asked = Asked {
            scopes: scopes.into_iter().collect(),
            resources: resources.into_iter().collect(),
        };
        self.consented(node, app, asked, by_admin, since, code);
    }

    /// The scopes that the rules leave of these.
    fn left_of(
        &self,
        node: usize,
        app: usize,
        scopes: &[&'static str],
        resources: &BTreeSet<&'static str>,
    ) -> BTreeSet<&'static str> {
        let machine = &self.machines[node];
        let may = |resource: Option<&str>, scope: &str| {
            let client = &self.apps[app].id;
            let name = machine.whose.name();
            granted(&machine.rules, name, client, resource, Some(scope), self.require_grant)
        };
        // Without a resource only what this server itself understands means something.
        let meant = |scope: &str| !resources.is_empty() || !["read", "write"].contains(&scope);
        let everywhere = |scope: &str| resources.iter().all(|resource| may(Some(resource), scope));
        let left = scopes.iter().copied();
        let left = left.filter(|scope| meant(scope) && may(None, scope) && everywhere(scope));
        left.collect()
    }

    pub(super) fn consented(
        &mut self,
        node: usize,
        app: usize,
        asked: Asked,
        by_admin: bool,
        silent: Option<i64>,
        code: String,
    ) {
        self.consents.push(Consent {
            node,
            owner: self.owner(node),
            app,
            scopes: asked.scopes,
            resources: asked.resources,
            code,
            at: self.now(),
            silent,
            by_admin,
            redeemed_by: None,
            revoked: false,
            refresh: Vec::new(),
            access: Vec::new(),
        });
    }
}
