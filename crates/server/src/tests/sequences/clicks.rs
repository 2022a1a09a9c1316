//! What a person does on a page of ours: says yes or no, has that remembered, and leaves.

use std::fmt::Write as _;

use super::{browsers::Asked, clients::WEB, *};

/// What a browser says of a navigation.
pub(super) const WHOLE_PAGE: (&str, &str) = ("sec-fetch-dest", "document");

/// A consent page, and what it showed.
pub(super) struct Shown {
    pub(super) node: usize,
    pub(super) owner: Owner,
    pub(super) app: usize,
    pub(super) asked: Asked,
    pub(super) pushed: Option<usize>,
    pub(super) by_admin: bool,
    pub(super) ticket: String,
    pub(super) cookie: String,
    pub(super) answered: bool,
}

/// The session that a click began.
pub(super) struct Session {
    pub(super) node: usize,
    pub(super) owner: Owner,
    pub(super) since: i64,
    pub(super) cookie: String,
    pub(super) over: bool,
}

/// A consent that is to be remembered.
pub(super) struct Remembered {
    pub(super) owner: Owner,
    pub(super) app: usize,
    pub(super) by_admin: bool,
    pub(super) over: bool,
    pub(super) node: usize,
    pub(super) asked: Asked,
    pub(super) since: i64,
}

impl Sequence {
    /// Somebody presses a button of a page, mostly of one that nobody has answered yet.
    #[expect(
        clippy::too_many_lines,
        reason = "one step of the model: a request and what it may change"
    )]
    pub(super) async fn click(&mut self) {
        let fresh = |at: &usize| !self.shown[*at].answered;
        let open: Vec<usize> = (0..self.shown.len()).filter(fresh).collect();
        let any: Vec<usize> = (0..self.shown.len()).collect();
        let from = if self.rng.random_bool(0.9) { open } else { any };
        let Some(&at) = from.choose(&mut self.rng) else { return };
        let node = self.shown[at].node;
        let node = self.mostly(node);
        let forged = self.rng.random_bool(0.1);
        let (allow, with_cookie, remember) = (
            self.rng.random_bool(0.9),
            self.rng.random_bool(0.9),
            self.rng.random_bool(0.7),
        );
        let mut pairs = vec![
            ("ticket", self.shown[at].ticket.as_str()),
            ("choice", if allow { "allow" } else { "deny" }),
        ];
        pairs.extend(remember.then_some(("remember", "yes")));
        let body = form(&pairs);
        let own = &self.shown[at].cookie;
        let mut cookie = if with_cookie {
            own.clone()
        } else {
            "consent=x".to_owned()
        };
        if let Some(session) = self.machines[node].session {
            let _ = write!(cookie, "; {}", self.sessions[session].cookie);
        }
        let page = if forged {
            ("sec-fetch-site", "same-site")
        } else {
            OURS[0]
        };
        let headers = [FORM, ("cookie", cookie.as_str()), page];
        let Some(answer) = self
            .send(node, Method::POST, "/authorize/consent", &headers, body)
            .await
        else {
            return;
        };
        let shown = &self.shown[at];
        let (app, pushed, before) = (shown.app, shown.pushed, shown.answered);
        let theirs = with_cookie && !forged && node == shown.node && self.owner(node) == shown.owner;
        let location = answer.header("location");
        if !location.contains("code=") {
            if location.contains("error=access_denied") && !allow {
                self.must(theirs, "somebody else said no");
                self.answered(at, pushed);
            }
            return;
        }
        let code = field(location, "code=", '&').to_owned();
        self.note(format!("{} clicked for client {app}", NODES[node].0));
        self.must(allow && theirs, "a code came of a click that is not the user's");
        self.must(!before, "a page was answered twice");
        self.must(
            pushed.is_none_or(|pushed| !self.pushed[pushed].answered),
            "a pushed request was answered twice",
        );
        let (asked, by_admin) = (
            self.shown[at].asked.clone(),
            self.shown[at].by_admin && self.apps[app].published,
        );
        self.answered(at, pushed);
        self.began(node, &answer);
        let client = &self.apps[app];
        if remember && client.redirect == WEB && (client.published || self.published_by_rule(client)) {
            self.remembered.push(Remembered {
                node,
                owner: self.owner(node),
                app,
                asked: asked.clone(),
                since: self.now(),
                by_admin,
                over: false,
            });
        }
        self.consented(node, app, asked, by_admin, None, code);
    }

    fn answered(&mut self, at: usize, pushed: Option<usize>) {
        self.shown[at].answered = true;
        if let Some(pushed) = pushed {
            self.pushed[pushed].answered = true;
        }
    }

    /// Keeps the session that a click began.
    fn began(&mut self, node: usize, answer: &Answer) {
        let lines = answer.headers.get_all("set-cookie").iter();
        let cookies = lines.filter_map(|line| line.to_str().ok()?.split(';').next());
        let mut session = cookies.filter(|cookie| cookie.starts_with("countersign_session=") && !cookie.ends_with('='));
        if let Some(cookie) = session.next() {
            self.machines[node].session = Some(self.sessions.len());
            self.sessions.push(Session {
                node,
                owner: self.owner(node),
                since: self.now(),
                cookie: cookie.to_owned(),
                over: false,
            });
        }
    }

    /// Somebody leaves; what was copied of his browser is not forgotten.
    pub(super) async fn log_out(&mut self) {
        let node = self.some_node();
        let Some(at) = self.some_session(node) else { return };
        let cookie = self.sessions[at].cookie.clone();
        let headers = [("cookie", cookie.as_str()), WHOLE_PAGE];
        let page = self.send(node, Method::GET, "/logout", &headers, String::new()).await;
        let Some(page) = page.filter(|page| page.status == StatusCode::OK) else {
            return;
        };
        let ticket = field(&page.text, "name=\"ticket\" value=\"", '"').to_owned();
        let own = page.header("set-cookie").split(';').next().unwrap().to_owned();
        let both = format!("{own}; {cookie}");
        let leaves = self.rng.random_bool(0.8);
        let body = form(&[("ticket", &ticket), ("choice", if leaves { "leave" } else { "stay" })]);
        let headers = [FORM, ("cookie", both.as_str()), OURS[0]];
        let Some(answer) = self.send(node, Method::POST, "/logout/answer", &headers, body).await else {
            return;
        };
        let session = &self.sessions[at];
        let own = session.node == node && session.owner == self.owner(node);
        if answer.status == StatusCode::OK && leaves && own {
            self.note(format!("{} logged out", NODES[node].0));
            self.sessions[at].over = true;
            self.issued.insert("a logout");
            if self.rng.random_bool(0.5) {
                self.machines[node].session = None;
            }
        }
    }
}
