//! Whether what came out was consented to, and is granted now.

use super::*;

impl Sequence {
    /// Holds what was issued against the consent it rests on and what the rules say now.
    pub(super) async fn hold(&mut self, at: usize, node: usize, tokens: &Value) {
        let text = tokens["access_token"].as_str().unwrap().to_owned();
        let is_opaque = !text.contains('.');
        self.must(
            is_opaque == self.apps[self.consents[at].app].opaque,
            "the token has another form than the client chose",
        );
        let access = self.access(text).await;
        if let Some(token) = &access.claims {
            self.hold_token(at, node, token);
            if is_opaque {
                self.issued.insert("an opaque token");
            }
        }
        self.must(
            self.stands(at),
            "the token rests on a user, node or client that is gone",
        );
        let scopes: Vec<&str> = tokens["scope"].as_str().unwrap_or_default().split(' ').collect();
        if let Some(id_token) = tokens["id_token"].as_str().map(claims) {
            let consent = &self.consents[at];
            self.must(
                id_token["aud"] == json!(self.apps[consent.app].id) && id_token["sub"] == json!(self.sub(at)),
                "the id_token is another's",
            );
            self.must(scopes.contains(&"openid"), "an id_token that nobody asked for");
            self.must(
                consent.silent.is_none_or(|since| id_token["auth_time"] == json!(since)),
                "the id_token says that somebody clicked who did not",
            );
        }
        let refresh = tokens["refresh_token"].as_str().map(str::to_owned);
        self.consents[at].access.push(access);
        self.consents[at].refresh.extend(refresh);
    }

    /// A token and what it says. One that says nothing is shown to the servers of all resources.
    pub(super) async fn access(&mut self, text: String) -> Access {
        let mut access = Access {
            claims: text.contains('.').then(|| claims(&text)),
            until: self.now() + 300,
            text,
        };
        for server in SERVERS {
            if access.claims.is_none() {
                let body = form(&[("token", &access.text)]);
                let told = self.send(server, Method::POST, "/introspect", &[FORM], body).await;
                let told = told
                    .filter(|told| told.status == StatusCode::OK)
                    .map(|told| told.json());
                access.claims = told.filter(|told| told["active"] == true);
            }
        }
        if let Some(until) = access.claims.as_ref().and_then(|claims| claims["exp"].as_i64()) {
            access.until = until;
        }
        access
    }

    pub(super) fn sub(&self, at: usize) -> String {
        match self.consents[at].owner {
            Owner::User(id) => format!("userid:{id}"),
            Owner::Node(node) => format!("nodeid:n{}", NODES[node].0),
        }
    }

    fn hold_token(&self, at: usize, node: usize, token: &Value) {
        let consent = &self.consents[at];
        self.must(token["sub"] == json!(self.sub(at)), "the token is of another user");
        self.must(
            token["client_id"] == json!(self.apps[consent.app].id),
            "the token is of another client",
        );
        self.must(
            token["cnf"]["tailnet_node"] == json!(format!("n{}", NODES[node].0)),
            "the token is bound to another node",
        );
        let scopes: Vec<&str> = token["scope"]
            .as_str()
            .unwrap()
            .split(' ')
            .filter(|scope| !scope.is_empty())
            .collect();
        let audience = list(&token["aud"]);
        self.must(
            scopes.iter().all(|scope| consent.scopes.contains(scope)),
            "the token has a scope that nobody saw",
        );
        let for_us = audience == [format!("http://{HOST}")];
        self.must(
            if consent.resources.is_empty() {
                for_us
            } else {
                audience.iter().all(|of| consent.resources.contains(&of.as_str()))
            },
            "the token is for a resource that nobody saw",
        );
        for resource in audience.iter().map(String::as_str).filter(|_| !for_us) {
            self.must(
                self.granted(at, Some(resource), None),
                "the token is for a resource that no rule grants",
            );
            for scope in &scopes {
                self.must(
                    self.granted(at, Some(resource), Some(scope)),
                    "the token has a scope that no rule grants",
                );
            }
        }
        for scope in &scopes {
            self.must(
                self.granted(at, None, Some(scope)),
                "the token has a scope that a rule denies",
            );
        }
    }

    pub(super) fn granted(&self, at: usize, resource: Option<&str>, scope: Option<&str>) -> bool {
        let consent = &self.consents[at];
        let machine = &self.machines[consent.node];
        let client = &self.apps[consent.app].id;
        granted(
            &machine.rules,
            machine.whose.name(),
            client,
            resource,
            scope,
            self.require_grant,
        )
    }

    /// Whether user, node and client of a consent are still what they were, and login is granted.
    pub(super) fn stands(&self, at: usize) -> bool {
        let consent = &self.consents[at];
        let app = &self.apps[consent.app];
        self.believed(consent.node)
            && self.owner(consent.node) == consent.owner
            && !app.deleted
            && self.granted(at, None, None)
            && (app.owner == consent.owner || app.published || self.published_by_rule(app))
    }

    pub(super) fn published_by_rule(&self, app: &App) -> bool {
        let machine = &self.machines[app.registrant];
        machine.present
            && self.owner(app.registrant) == app.owner
            && machine.rules.iter().any(|rule| matches!(rule, Rule::Publish))
            && !shut_out(&machine.rules, machine.whose.name())
    }

    /// What a token of an earlier time is good for now.
    pub(super) fn good(&self, at: usize, until: i64) {
        self.must(until > self.now(), "an expired token was good");
        self.must(!self.consents[at].revoked, "a revoked token was good");
        self.must(self.stands(at), "a token was good after what it rests on was gone");
        for resource in &self.consents[at].resources {
            self.must(
                self.granted(at, Some(resource), None),
                "a token was good after its rule was withdrawn",
            );
        }
    }
}
