//! What browsers, clients and thieves do: from a registration to tokens.

use super::*;

impl Sequence {
    pub(super) async fn register(&mut self) {
        let node = self.some_node();
        let confidential = self.rng.random_bool(0.4);
        let body = json!({
            "redirect_uris": [if confidential { "https://app.example.ts.net/cb" } else { "http://localhost/callback" }],
            "token_endpoint_auth_method": if confidential { "client_secret_basic" } else { "none" },
            "grant_types": if confidential {
                json!(["authorization_code", "refresh_token", "client_credentials"])
            } else {
                json!(["authorization_code", "refresh_token"])
            },
        });
        let headers = [("content-type", "application/json")];
        let Some(answer) = self
            .send(node, Method::POST, "/register", &headers, body.to_string())
            .await
        else {
            return;
        };
        if answer.status != StatusCode::CREATED {
            return;
        }
        let whose = self.machines[node].whose;
        let may = self.believed(node)
            && self.machines[node]
                .rules
                .iter()
                .any(|rule| matches!(rule, Rule::Register))
            && !shut_out(&self.machines[node].rules, whose.name());
        self.must(may, "a client was registered without a rule");
        let made = answer.json();
        let text = |name: &str| made[name].as_str().map(str::to_owned);
        self.note(format!("{} registered client {}", NODES[node].0, self.apps.len()));
        self.apps.push(App {
            id: text("client_id").unwrap(),
            secret: text("client_secret"),
            registration_token: text("registration_access_token").unwrap(),
            owner: self.owner(node),
            registrant: node,
            published: false,
            deleted: false,
        });
    }

    pub(super) async fn authorize(&mut self) {
        let (node, Some(app)) = (self.some_node(), self.some_app()) else {
            return;
        };
        let resources = self.some_of(RESOURCES, 2);
        let scopes = self.some_of(SCOPES, 4);
        let redirect = if self.apps[app].secret.is_some() {
            "https://app.example.ts.net/cb"
        } else {
            REDIRECT
        };
        let scope = scopes.join(" ");
        let mut extra: Vec<(&str, &str)> = resources.iter().map(|resource| ("resource", *resource)).collect();
        extra.push(("scope", &scope));
        let path = authorize_path(&self.apps[app].id, &extra).replace(
            &form(&[("redirect_uri", REDIRECT)]),
            &form(&[("redirect_uri", redirect)]),
        );
        let Some(answer) = self.send(node, Method::GET, &path, &[], String::new()).await else {
            return;
        };
        if answer.status != StatusCode::OK {
            self.must(
                !answer.header("location").contains("code="),
                "a code came without a click",
            );
            return;
        }
        self.note(format!(
            "{} was asked for client {app}, {resources:?}, {scopes:?}",
            NODES[node].0
        ));
        self.shown.push(Shown {
            node,
            owner: self.owner(node),
            app,
            scopes,
            resources,
            ticket: field(&answer.text, "name=\"ticket\" value=\"", '"').to_owned(),
            cookie: answer.header("set-cookie").split(';').next().unwrap().to_owned(),
        });
    }

    pub(super) async fn click(&mut self) {
        if self.shown.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.shown.len());
        let node = self.shown[at].node;
        let node = self.mostly(node);
        let (forged, allow, with_cookie) = (
            self.rng.random_bool(0.1),
            self.rng.random_bool(0.9),
            self.rng.random_bool(0.9),
        );
        let choice = if allow { "allow" } else { "deny" };
        let body = form(&[("ticket", &self.shown[at].ticket), ("choice", choice)]);
        let cookie = if with_cookie {
            self.shown[at].cookie.clone()
        } else {
            "consent=x".to_owned()
        };
        let page = if forged {
            [("sec-fetch-site", "same-site")]
        } else {
            OURS
        };
        let headers = [FORM, ("cookie", cookie.as_str()), page[0]];
        let Some(answer) = self
            .send(node, Method::POST, "/authorize/consent", &headers, body)
            .await
        else {
            return;
        };
        let location = answer.header("location");
        if !location.contains("code=") {
            return;
        }
        let code = field(location, "code=", '&').to_owned();
        let shown = self.shown.swap_remove(at);
        self.note(format!("{} clicked for client {}", NODES[node].0, shown.app));
        self.must(
            allow && !forged && with_cookie && node == shown.node && self.owner(node) == shown.owner,
            "a code came of a click that is not the user's",
        );
        self.consents.push(Consent {
            node,
            owner: shown.owner,
            app: shown.app,
            scopes: shown.scopes,
            resources: shown.resources,
            code,
            at: self.now(),
            redeemed_by: None,
            revoked: false,
            refresh: Vec::new(),
            access: Vec::new(),
        });
    }

    /// The headers and fields by which a client authenticates; now and then another one, or with a wrong secret.
    pub(super) fn authenticate(&mut self, app: usize) -> (usize, bool, String, String) {
        let other = self.rng.random_range(0..self.apps.len());
        let app = if self.rng.random_bool(0.9) { app } else { other };
        let right = self.rng.random_bool(0.9);
        let id = self.apps[app].id.clone();
        match &self.apps[app].secret {
            Some(secret) => {
                let secret = if right { secret } else { "wrong" };
                (
                    app,
                    right,
                    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}"))),
                    String::new(),
                )
            }
            None => (app, true, String::new(), form(&[("client_id", &id)])),
        }
    }

    pub(super) async fn token(&mut self, node: usize, authorization: &str, body: String) -> Option<Value> {
        let mut headers = vec![FORM];
        if !authorization.is_empty() {
            headers.push(("authorization", authorization));
        }
        let answer = self.send(node, Method::POST, "/token", &headers, body).await?;
        (answer.status == StatusCode::OK).then(|| answer.json())
    }

    pub(super) async fn redeem(&mut self) {
        if self.consents.is_empty() {
            return;
        }
        // Mostly the newest, or every code would be too old.
        let newest = self.consents.len() - 1;
        let at = if self.rng.random_bool(0.7) {
            newest
        } else {
            self.rng.random_range(0..=newest)
        };
        let (node, app) = (self.consents[at].node, self.consents[at].app);
        let node = self.mostly(node);
        let (app, proven, authorization, fields) = self.authenticate(app);
        let right = self.rng.random_bool(0.9);
        let verifier = if right { VERIFIER } else { "x".repeat(43).leak() };
        let mut pairs = vec![
            ("grant_type", "authorization_code"),
            ("code", &self.consents[at].code),
            ("code_verifier", verifier),
        ];
        let narrowed = self.consents[at]
            .resources
            .first()
            .copied()
            .filter(|_| node.is_multiple_of(2));
        pairs.extend(narrowed.map(|resource| ("resource", resource)));
        let body = format!("{}&{fields}", form(&pairs));
        let Some(tokens) = self.token(node, &authorization, body).await else {
            return;
        };
        self.note(format!("{} redeemed consent {at} as client {app}", NODES[node].0));
        let consent = &self.consents[at];
        self.must(consent.redeemed_by.is_none(), "a code was redeemed twice");
        self.must(self.now() - consent.at <= 60, "a code was redeemed too late");
        self.must(
            right && proven && app == consent.app,
            "a code was redeemed without proof",
        );
        let client = &self.apps[app];
        let at_home = client.secret.is_some() || self.owner(node) == consent.owner || node == client.registrant;
        self.must(at_home, "a code was redeemed at a node of somebody else");
        self.consents[at].redeemed_by = Some(node);
        self.issued.insert("code");
        self.hold(at, node, &tokens);
    }

    pub(super) async fn refresh(&mut self) {
        let held: Vec<usize> = (0..self.consents.len())
            .filter(|&at| !self.consents[at].refresh.is_empty())
            .collect();
        let Some(&at) = held.choose(&mut self.rng) else { return };
        let consent = &self.consents[at];
        let (app, home) = (consent.app, consent.redeemed_by.unwrap_or(consent.node));
        let newest = consent.refresh.len() - 1;
        let which = if self.rng.random_bool(0.9) {
            newest
        } else {
            self.rng.random_range(0..=newest)
        };
        let text = self.consents[at].refresh[which].clone();
        let node = self.mostly(home);
        let (app, proven, authorization, fields) = self.authenticate(app);
        let body = format!(
            "{}&{fields}",
            form(&[("grant_type", "refresh_token"), ("refresh_token", &text)])
        );
        let Some(tokens) = self.token(node, &authorization, body).await else {
            return;
        };
        self.note(format!("{} refreshed consent {at} as client {app}", NODES[node].0));
        let consent = &self.consents[at];
        self.must(proven && app == consent.app, "a refresh token was good without proof");
        self.must(
            consent.redeemed_by == Some(node),
            "a refresh token was good at another node",
        );
        self.must(!consent.revoked, "a refresh token was good after it was revoked");
        self.must(
            self.now() - consent.at <= 30 * 24 * 3600,
            "a refresh token was good for ever",
        );
        self.issued.insert("refresh");
        self.hold(at, node, &tokens);
    }

    pub(super) async fn act_for_itself(&mut self) {
        let Some(app) = self.some_app().filter(|&app| self.apps[app].secret.is_some()) else {
            return;
        };
        let node = self.some_node();
        let (app, proven, authorization, fields) = self.authenticate(app);
        let resources = self.some_of(RESOURCES, 2);
        let mut pairs = vec![("grant_type", "client_credentials"), ("scope", "read write openid")];
        pairs.extend(resources.iter().map(|resource| ("resource", *resource)));
        let Some(tokens) = self
            .token(node, &authorization, format!("{}&{fields}", form(&pairs)))
            .await
        else {
            return;
        };
        self.note(format!("client {app} acts for itself on {}", NODES[node].0));
        let (client, token) = (&self.apps[app], claims(tokens["access_token"].as_str().unwrap()));
        let machine = &self.machines[client.registrant];
        self.must(
            proven && !client.deleted && client.secret.is_some(),
            "a machine's token without proof",
        );
        self.must(
            token["sub"] == json!(client.id) && token["client_id"] == json!(client.id),
            "a machine's token of another",
        );
        self.must(
            self.believed(client.registrant) && self.owner(client.registrant) == client.owner,
            "a machine's token rests on a node that is gone",
        );
        let scopes: Vec<String> = token["scope"]
            .as_str()
            .unwrap()
            .split(' ')
            .filter(|scope| !scope.is_empty())
            .map(str::to_owned)
            .collect();
        self.must(
            !scopes.contains(&"openid".to_owned()) && tokens.get("id_token").is_none(),
            "a machine has no identity",
        );
        self.must(
            tokens.get("refresh_token").is_none(),
            "a machine needs no refresh token",
        );
        let may = |resource: Option<&str>, scope: Option<&str>| {
            granted(
                &machine.rules,
                machine.whose.name(),
                &client.id,
                resource,
                scope,
                self.require_grant,
            )
        };
        self.must(may(None, None), "a machine's token without a login rule");
        for resource in list(&token["aud"]).iter().filter(|of| **of != format!("http://{HOST}")) {
            self.must(
                resources.contains(&resource.as_str()) && may(Some(resource), None),
                "a machine's token for a resource that no rule grants",
            );
            for scope in &scopes {
                self.must(
                    may(Some(resource), Some(scope)),
                    "a machine's scope that no rule grants",
                );
            }
        }
        self.issued.insert("machine");
    }
}
