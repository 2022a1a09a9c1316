//! What a subject may have of what a client asks for: login, each resource, each scope.
//!
//! [`weigh`] puts every question to the policy and keeps all answers with their grounds; [`Access::scopes`] makes one
//! decision of them. Authorize, consent, token, refresh, userinfo and introspection decide by it, each time anew, and
//! `policy explain` shows the same answers to a person.

use time::OffsetDateTime;

use crate::{
    authorize::Rules,
    caller::Caller,
    client::ClientId,
    error::{ErrorCode, OAuthError},
    policy::{Ask, Denied, Ruling},
    resource::Resource,
};

/// What a client asks for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The client.
    pub client: &'a ClientId,
    /// The servers that it wants tokens for; none means login only.
    pub resources: &'a [Resource],
    /// The scopes, for each of them.
    pub scopes: &'a [String],
}

/// Every answer that the policy of a subject gives.
#[derive(Debug)]
pub struct Access<'a> {
    asked: Asked<'a>,
    user: String,
    /// Whether the subject may log in with the client at all.
    pub login: Ruling,
    /// Whether it may have each resource, in the order in which they were asked for.
    pub resources: Vec<(&'a Resource, Ruling)>,
}

/// Puts `asked` to the policy that `subject` holds now.
pub fn weigh<'a>(asked: Asked<'a>, subject: &Caller, rules: &Rules, now: OffsetDateTime) -> Access<'a> {
    let names = subject.names();
    let rule_on = |resource| {
        let ask = Ask {
            names: &names,
            client: asked.client,
            resource,
            scopes: asked.scopes,
            open_network: rules.open_network,
            require_grant: rules.require_grant,
        };
        subject.policy.rule_on(&ask, now)
    };
    Access {
        asked,
        user: subject.user_label(),
        login: rule_on(None),
        resources: asked
            .resources
            .iter()
            .map(|resource| (resource, rule_on(Some(resource))))
            .collect(),
    }
}

impl Access<'_> {
    /// The scopes that may be had for login and for every resource.
    ///
    /// # Errors
    /// `access_denied` that names the rule, or says that there is none, when login or a resource may not be had.
    pub fn scopes(&self) -> Result<Vec<String>, OAuthError> {
        let login = format!("log in with the client {}", self.asked.client);
        let login = self.login.whole.as_ref().map_err(|denied| self.refuse(denied, &login));
        login?;
        for (resource, ruling) in &self.resources {
            let what = format!("use the resource {}", resource.as_str());
            let whole = ruling.whole.as_ref().map_err(|denied| self.refuse(denied, &what));
            whole?;
        }
        let rulings = || std::iter::once(&self.login).chain(self.resources.iter().map(|(_, ruling)| ruling));
        let may = |index: usize| rulings().all(|ruling| ruling.scopes.get(index).is_some_and(Result::is_ok));
        let scopes = self.asked.scopes.iter().enumerate();
        Ok(scopes
            .filter(|(index, _)| may(*index))
            .map(|(_, scope)| scope.clone())
            .collect())
    }

    fn refuse(&self, denied: &Denied, what: &str) -> OAuthError {
        OAuthError::new(ErrorCode::AccessDenied, sentence(denied, &self.user, what))
    }
}

/// Why `user` may not do `what`.
pub fn sentence(denied: &Denied, user: &str, what: &str) -> String {
    match denied {
        Denied::NoRule => format!("no rule of the tailnet policy allows {user} to {what}"),
        Denied::Rule(number) => format!("rule {number} of the tailnet policy does not let {user} {what}"),
        Denied::Broken(error) => format!("the tailnet policy cannot be understood, so it grants nothing: {error}"),
    }
}

/// The scopes that the policy of `subject` allows for login and every one of `resources`, asked anew whenever tokens
/// are made.
///
/// # Errors
/// As [`Access::scopes`].
pub fn allowed_scopes(
    scopes: &[String],
    resources: &[Resource],
    client: &ClientId,
    subject: &Caller,
    rules: &Rules,
    now: OffsetDateTime,
) -> Result<Vec<String>, OAuthError> {
    let asked = Asked {
        client,
        resources,
        scopes,
    };
    weigh(asked, subject, rules, now).scopes()
}

#[cfg(test)]
mod tests;
