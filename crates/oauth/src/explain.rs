//! `policy explain`: every decision about one person at one node, each with what decided it and what would change it.
//!
//! Nothing is worked out here. The same functions that decide requests are asked, and their answers are put into
//! sentences: [`register::admit`] for registration, [`authorize::may_use`] for the client, [`access::weigh`] for login,
//! resources and scopes.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::{
    access::{self, Access, Asked},
    authorize::{self, PageError},
    caller::{Caller, Who},
    client::{Client, ClientId},
    policy::{Denied, Ground, Policy, Ruling},
    publish::Use,
    register,
    remedy::Remedy,
    resource::Resource,
};

/// What is to be explained.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The person or tagged node, as the netmap has it now.
    pub subject: &'a Caller,
    /// The client, if one was named.
    pub client: Option<&'a ClientId>,
    /// What the store has about the client.
    pub record: Option<&'a Client>,
    /// What the netmap has about the node that registered the client.
    pub registrant: Option<&'a Caller>,
    /// The resources.
    pub resources: &'a [Resource],
    /// The scopes.
    pub scopes: &'a [String],
    /// Who reads the answer.
    pub reader: Reader,
}

/// How much a reader may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// An administrator: everything.
    Administrator,
    /// The subject: the rules that were granted to him, and no text of the rules of others.
    Subject,
}

/// What the server's configuration says.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// About registering.
    pub registration: &'a register::Rules,
    /// About authorizing.
    pub authorize: &'a authorize::Rules,
}

/// The answers about one node, or about several nodes of one user that are answered alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Login name, or tags.
    pub user: String,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// How many rules the tailnet policy grants them towards this server.
    pub rules: usize,
    /// Whether an authorization of all that was asked would go through. Registration does not count.
    pub allowed: bool,
    /// One answer after the other, in the order in which a request meets them.
    pub steps: Vec<Step>,
}

/// A node of the subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// MagicDNS name.
    pub name: String,
    /// Stable id.
    pub id: String,
}

/// What a step is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Whether the tailnet's word about the node is relied on.
    Identity,
    /// Registering clients from this node.
    Registration,
    /// Using the client.
    Client,
    /// Logging in with it.
    Login,
    /// A resource.
    Resource,
    /// A scope, for login and every resource.
    Scope,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What it is about.
    pub kind: Kind,
    /// Which one: a client id, a resource, a scope.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// Yes or no.
    pub allowed: bool,
    /// Why, in one sentence without a full stop.
    pub why: String,
    /// The rule that decided, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Decider>,
    /// What would turn a no into a yes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remedies: Vec<Remedy>,
}

/// A rule of the tailnet policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decider {
    /// Counted from 1 in the order control sent them for that node.
    pub number: usize,
    /// As control sent it; empty when the reader may not see it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// To whom it was granted.
    pub source: String,
}

/// Explains what comes of `question`.
pub fn explain(question: &Question<'_>, settings: &Settings<'_>, now: OffsetDateTime) -> Explanation {
    let by_default = question
        .record
        .and_then(|client| client.options.default_resource.as_ref());
    let question = &Question {
        // As the authorization endpoint does: a client that names no resource asks for its own default.
        resources: match (question.resources, by_default) {
            ([], Some(resource)) => std::slice::from_ref(resource),
            (named, _) => named,
        },
        ..*question
    };
    let telling = Telling {
        question,
        settings,
        now,
    };
    let nobody = ClientId::from_request("");
    let asked = Asked {
        client: question.client.unwrap_or(&nobody),
        resources: question.resources,
        scopes: question.scopes,
    };
    let access = access::weigh(asked, question.subject, settings.authorize, now);
    let mut steps = vec![telling.identity(), telling.registration()];
    steps.extend(telling.client());
    steps.push(telling.login(&access));
    steps.extend(access.resources.iter().map(|(of, ruling)| telling.resource(of, ruling)));
    let needed = |step: &Step| step.kind != Kind::Registration;
    let allowed = steps.iter().filter(|step| needed(step)).all(|step| step.allowed);
    // Scopes are reduced, never refused.
    steps.extend((0..question.scopes.len()).map(|index| telling.scope(index, &access)));
    Explanation {
        user: question.subject.user_label(),
        nodes: vec![Node {
            name: question.subject.node_name.clone(),
            id: question.subject.node_id.clone(),
        }],
        rules: question.subject.policy.len(),
        allowed,
        steps,
    }
}

/// Joins explanations that differ in nothing but the node.
pub fn merged(explanations: Vec<Explanation>) -> Vec<Explanation> {
    let mut merged: Vec<Explanation> = Vec::new();
    for explanation in explanations {
        let same = |known: &&mut Explanation| {
            (&known.user, known.rules, &known.steps) == (&explanation.user, explanation.rules, &explanation.steps)
        };
        match merged.iter_mut().find(same) {
            Some(known) => known.nodes.extend(explanation.nodes),
            None => merged.push(explanation),
        }
    }
    merged
}

struct Telling<'a> {
    question: &'a Question<'a>,
    settings: &'a Settings<'a>,
    now: OffsetDateTime,
}

impl Telling<'_> {
    fn user(&self) -> String {
        self.question.subject.user_label()
    }

    fn identity(&self) -> Step {
        let subject = self.question.subject;
        let identity = &self.settings.authorize.identity;
        match subject.vouched(identity) {
            Ok(()) => yes(Kind::Identity, "", "the tailnet vouches for the node"),
            Err(error) => {
                let routers = "takes a node that advertises routes for its user's";
                let only_routes = subject.routes && !subject.shared && subject.netmap_age <= identity.netmap_max_age;
                let remedy = only_routes.then(|| Remedy::setting(routers, "routers_are_users = true"));
                no(Kind::Identity, "", error.description(), remedy.into_iter().collect())
            }
        }
    }

    fn registration(&self) -> Step {
        match register::admit(self.question.subject, self.settings.registration, self.now) {
            Ok(ground) => self.granted(Kind::Registration, "", ground, "register clients from this node"),
            Err(refused) => {
                let mut step = no(
                    Kind::Registration,
                    "",
                    refused.error.description(),
                    refused.remedies.clone(),
                );
                if let Some(denied) = &refused.denied {
                    self.blame(&mut step, denied);
                }
                step
            }
        }
    }

    fn client(&self) -> Option<Step> {
        let id = self.question.client?.as_str();
        let Some(client) = self.question.record else {
            let why = "no client is registered here under this id";
            return Some(no(Kind::Client, id, why, Vec::new()));
        };
        let used = authorize::may_use(
            client,
            self.question.subject,
            self.question.registrant,
            self.settings.authorize,
            self.now,
        );
        let from = &client.registrant.node_name;
        Some(match used {
            Ok(Use::Owner) => yes(
                Kind::Client,
                id,
                format!("it is {}'s own, registered on {from}", self.user()),
            ),
            Ok(Use::Published(publication)) => {
                let why = format!("{} published it on {}", publication.by, publication.at.date());
                yes(Kind::Client, id, why)
            }
            Ok(Use::Granted(ground)) => Step {
                rule: self.question.registrant.and_then(|node| self.publisher(node, ground)),
                ..yes(
                    Kind::Client,
                    id,
                    format!("a rule of {from}, which registered it, publishes it"),
                )
            },
            Err(PageError::NotYours(whose)) => {
                let remedies = whose.remedies(&self.settings.registration.own_names);
                no(Kind::Client, id, &PageError::NotYours(whose).to_string(), remedies)
            }
            Err(error) => no(Kind::Client, id, &error.to_string(), Vec::new()),
        })
    }

    fn login(&self, access: &Access<'_>) -> Step {
        let client = self.question.client.map_or("", ClientId::as_str);
        let what = match client {
            "" => "log in with a client that no rule names".to_owned(),
            id => format!("log in with the client {id}"),
        };
        let denied = match &access.login.whole {
            Ok(ground) => return self.granted(Kind::Login, client, *ground, &what),
            Err(denied) => denied,
        };
        let mut nested = json!({ "users": self.question.subject.names() });
        if let (false, Some(fields)) = (client.is_empty(), nested.as_object_mut()) {
            fields.insert("clients".into(), json!([client]));
        }
        let rule = json!({ "countersign": nested });
        let grant = self.grant(&format!("lets {} log in", self.user()), &rule);
        let setting = Remedy::setting("lets everybody log in", "require_grant = false");
        self.denied(Kind::Login, client, denied, &what, vec![grant, setting])
    }

    fn resource(&self, resource: &Resource, ruling: &Ruling) -> Step {
        let what = format!("use the resource {}", resource.as_str());
        let denied = match &ruling.whole {
            Ok(ground) => return self.granted(Kind::Resource, resource.as_str(), *ground, &what),
            Err(denied) => denied,
        };
        let fields = json!({ "users": self.question.subject.names(), "resources": [resource.as_str()] });
        let rule = match self.question.subject.who {
            Who::User { .. } => fields,
            // tsidp's own keys never mean a tag.
            Who::Tagged(_) => json!({ "countersign": fields }),
        };
        let grant = self.grant(&format!("lets {} {what}", self.user()), &rule);
        self.denied(Kind::Resource, resource.as_str(), denied, &what, vec![grant])
    }

    fn scope(&self, index: usize, access: &Access<'_>) -> Step {
        let scope = self.question.scopes.get(index).map_or("", String::as_str);
        if let Some(client) = self.question.record {
            let meaningful = authorize::meaningful_scopes(&[scope], client, !self.question.resources.is_empty());
            if meaningful.is_empty() {
                let why = "it is left out: the client did not register it, or it means nothing without a resource";
                return no(Kind::Scope, scope, why, Vec::new());
            }
        }
        let rulings = std::iter::once((None, &access.login)).chain(
            access
                .resources
                .iter()
                .map(|(resource, ruling)| (Some(*resource), ruling)),
        );
        let mut ground = None;
        for (resource, ruling) in rulings {
            let place = resource.map_or("login", Resource::as_str);
            let what = format!("have the scope {scope} for {place}");
            match ruling.scopes.get(index) {
                Some(Err(Denied::NoRule)) if ruling.whole == Err(Denied::NoRule) => {
                    return no(
                        Kind::Scope,
                        scope,
                        &format!("it goes with {place}, which no rule allows"),
                        Vec::new(),
                    );
                }
                Some(Err(denied)) => {
                    let rule = json!({ "countersign": {
                        "users": self.question.subject.names(),
                        "resources": resource.map(|resource| vec![resource.as_str()]).unwrap_or_default(),
                        "scopes": [scope],
                    }});
                    let grant = self.grant(&format!("lets {} {what}", self.user()), &rule);
                    return self.denied(Kind::Scope, scope, denied, &what, vec![grant]);
                }
                Some(Ok(of)) => ground = Some((*of, what)),
                None => {}
            }
        }
        match ground {
            Some((ground, what)) => self.granted(Kind::Scope, scope, ground, &what),
            None => no(Kind::Scope, scope, "nothing was asked for it", Vec::new()),
        }
    }

    /// A yes of the subject's policy or of the settings.
    fn granted(&self, kind: Kind, about: &str, ground: Ground, what: &str) -> Step {
        let user = self.user();
        let why = match ground {
            Ground::Rule(number) => format!("rule {number} of the tailnet policy lets {user} {what}"),
            Ground::Setting(line) => format!("the server's settings ({line}) let {user} {what}"),
        };
        Step {
            rule: self.own_rule(ground),
            ..yes(kind, about, why)
        }
    }

    /// A no of the subject's policy; `missing` would help where only a rule is missing.
    fn denied(&self, kind: Kind, about: &str, denied: &Denied, what: &str, missing: Vec<Remedy>) -> Step {
        let remedies = if *denied == Denied::NoRule { missing } else { Vec::new() };
        let mut step = no(kind, about, &access::sentence(denied, &self.user(), what), remedies);
        self.blame(&mut step, denied);
        step
    }

    /// Names the rule that says no, and what is to be done with it.
    fn blame(&self, step: &mut Step, denied: &Denied) {
        let (number, effect) = match denied {
            Denied::NoRule => return,
            Denied::Rule(number) => (*number, "narrow it or take it out"),
            Denied::Broken(error) => (error.number, "mend it"),
        };
        let policy = &self.question.subject.policy;
        step.rule = self.own_rule(Ground::Rule(number));
        step.remedies
            .push(Remedy::rule(number, effect, policy.text(number).unwrap_or_default()));
    }

    fn own_rule(&self, ground: Ground) -> Option<Decider> {
        let policy = &self.question.subject.policy;
        decider(policy, ground, true, |number| {
            format!(
                "rule {number} of {} that the tailnet policy grants this node on this server",
                policy.len()
            )
        })
    }

    /// A rule that another node holds: whose text is for administrators, unless the subject is that node's owner.
    fn publisher(&self, node: &Caller, ground: Ground) -> Option<Decider> {
        let shown = self.question.reader == Reader::Administrator || node.owner() == self.question.subject.owner();
        decider(&node.policy, ground, shown, |number| {
            format!(
                "rule {number} that the tailnet policy grants {} on this server",
                node.node_name
            )
        })
    }

    fn grant(&self, effect: &str, rule: &Value) -> Remedy {
        let sources = self.question.subject.policy_sources();
        Remedy::grant(effect, &sources, &self.settings.registration.own_names, rule)
    }
}

fn decider(policy: &Policy, ground: Ground, shown: bool, source: impl Fn(usize) -> String) -> Option<Decider> {
    let Ground::Rule(number) = ground else { return None };
    let text = policy.text(number).filter(|_| shown).unwrap_or_default();
    Some(Decider {
        number,
        text: text.to_owned(),
        source: source(number),
    })
}

fn yes(kind: Kind, about: &str, why: impl Into<String>) -> Step {
    Step {
        kind,
        about: about.to_owned(),
        allowed: true,
        why: why.into(),
        rule: None,
        remedies: Vec::new(),
    }
}

fn no(kind: Kind, about: &str, why: &str, remedies: Vec<Remedy>) -> Step {
    Step {
        kind,
        about: about.to_owned(),
        allowed: false,
        why: why.to_owned(),
        rule: None,
        remedies,
    }
}

#[cfg(test)]
mod tests;
