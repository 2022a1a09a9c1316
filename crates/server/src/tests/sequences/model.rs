//! What may be given to whom, told a second time: a few plain rules over plain values, none of the code that decides.

use super::*;

/// Who a node belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    User(i64, &'static str),
    Tagged(&'static str),
}

impl Whose {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::User(_, name) | Self::Tagged(name) => name,
        }
    }
}

/// A rule, as the policy would say it and as it is meant.
#[derive(Debug, Clone)]
pub(super) enum Rule {
    Register,
    Plain { user: &'static str, resource: &'static str },
    Nested { deny: bool, fields: Fields },
    Publish,
    Introspect { resource: &'static str },
}

#[derive(Debug, Clone, Default)]
pub(super) struct Fields {
    pub(super) users: Vec<&'static str>,
    pub(super) resources: Vec<&'static str>,
    pub(super) clients: Vec<String>,
    pub(super) scopes: Vec<&'static str>,
}

impl Rule {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Register => json!({ "allow_dcr": true }),
            Self::Plain { user, resource } => json!({ "users": [user], "resources": [resource] }),
            Self::Nested { deny, fields } => json!({ "countersign": {
                "deny": deny, "users": fields.users, "resources": fields.resources, "clients": fields.clients,
                "scopes": fields.scopes,
            }}),
            Self::Publish => json!({ "countersign": { "publish_clients": true } }),
            Self::Introspect { resource } => json!({ "countersign": { "introspect": [resource] } }),
        }
        .to_string()
    }
}

impl Fields {
    fn concern(&self, name: &str, client: &str, resource: Option<&str>, of_denial: bool) -> bool {
        let named = |list: &[&str], item: &str, when_empty: bool| {
            (list.is_empty() && when_empty) || list.iter().any(|listed| *listed == "*" || *listed == item)
        };
        let resource = match resource {
            Some(resource) => named(&self.resources, resource, of_denial),
            None => !of_denial || self.resources.is_empty(),
        };
        resource
            && named(&self.users, name, of_denial)
            && (self.clients.is_empty() || self.clients.iter().any(|listed| listed == client))
    }

    fn has_scope(&self, scope: Option<&str>) -> bool {
        self.scopes.is_empty() || scope.is_some_and(|scope| self.scopes.contains(&scope))
    }
}

/// Whether rules let `name` have something of a client: login (no resource) or a resource, as a whole or one scope.
pub(super) fn granted(
    rules: &[Rule],
    name: &str,
    client: &str,
    resource: Option<&str>,
    scope: Option<&str>,
    require_grant: bool,
) -> bool {
    let denied = rules.iter().any(|rule| match rule {
        Rule::Nested { deny: true, fields } => fields.concern(name, client, resource, true) && fields.has_scope(scope),
        _ => false,
    });
    let allowed = rules.iter().any(|rule| match rule {
        Rule::Plain { user, resource: of } => {
            let user = *user == "*" || *user == name && !name.starts_with("tag:");
            user && resource.is_none_or(|resource| *of == "*" || *of == resource)
        }
        Rule::Nested { deny: false, fields } => {
            let scope = scope.filter(|_| resource.is_some());
            fields.concern(name, client, resource, false) && (scope.is_none() || fields.has_scope(scope))
        }
        _ => false,
    });
    let open = resource.is_none() && !require_grant;
    !denied && (allowed || open)
}

/// Whether rules deny `name` everything.
pub(super) fn shut_out(rules: &[Rule], name: &str) -> bool {
    rules.iter().any(|rule| match rule {
        Rule::Nested { deny: true, fields } => {
            let nothing = fields.resources.is_empty() && fields.clients.is_empty() && fields.scopes.is_empty();
            nothing && (fields.users.is_empty() || fields.users.iter().any(|user| *user == "*" || *user == name))
        }
        _ => false,
    })
}
