//! Request parameters, from a query or a form.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use url::form_urlencoded;

use crate::error::{ErrorCode, OAuthError};

/// The parameters of one request, in the order they were sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Decodes `application/x-www-form-urlencoded` bytes. Total: what cannot be decoded becomes U+FFFD, which no
    /// parameter accepts.
    pub fn parse(encoded: &[u8]) -> Self {
        Self(form_urlencoded::parse(encoded).into_owned().collect())
    }

    /// Both requests' parameters: a query and the form beside it.
    #[must_use]
    pub fn and(mut self, more: Self) -> Self {
        self.0.extend(more.0);
        self
    }

    /// The same without the parameters of these names.
    #[must_use]
    pub fn without(&self, names: &[&str]) -> Self {
        let kept = self.0.iter().filter(|(name, _)| !names.contains(&name.as_str()));
        Self(kept.cloned().collect())
    }

    /// The same with this value of a parameter in place of any other.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut params = self.without(&[name]);
        params.0.push((name.to_owned(), value.to_owned()));
        params
    }

    /// Bytes of all names and values.
    pub fn len(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// Whether nothing was sent.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A parameter that may be sent once. One without a value counts as not sent (RFC 6749 3.1).
    ///
    /// # Errors
    /// `invalid_request` when it was sent more than once.
    pub fn one(&self, name: &str) -> Result<Option<&str>, OAuthError> {
        let mut values = self.many(name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(OAuthError::new(
                ErrorCode::InvalidRequest,
                format!("{name} was sent more than once"),
            )),
            (value, None) => Ok(value),
        }
    }

    /// A parameter that must be sent once.
    ///
    /// # Errors
    /// `invalid_request` when it is missing or was sent more than once.
    pub fn required(&self, name: &str) -> Result<&str, OAuthError> {
        self.one(name)?
            .ok_or_else(|| OAuthError::new(ErrorCode::InvalidRequest, format!("{name} is missing")))
    }

    /// The first parameter that was sent more than once although it is not among `repeatable` (RFC 6749 3.1).
    pub fn repeated(&self, repeatable: &[&str]) -> Option<&str> {
        let mut seen = BTreeSet::new();
        let sent = self.0.iter().filter(|(_, value)| !value.is_empty());
        sent.map(|(name, _)| name.as_str())
            .find(|name| !repeatable.contains(name) && !seen.insert(*name))
    }

    /// Every value of a parameter that may be repeated; empty ones are left out.
    pub fn many<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.0
            .iter()
            .filter(move |(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_sent_once_and_an_empty_one_not_at_all() {
        let params = Params::parse(b"a=1&b=&c=x+y%20z&d=1&d=2&resource=r1&resource=r2");
        assert_eq!(params.one("a").unwrap(), Some("1"));
        assert_eq!(params.one("b").unwrap(), None);
        assert_eq!(params.one("c").unwrap(), Some("x y z"));
        assert!(params.one("d").unwrap_err().description().contains("d was sent"));
        assert!(params.required("b").unwrap_err().description().contains("b is missing"));
        assert_eq!(params.many("resource").collect::<Vec<_>>(), ["r1", "r2"]);
        assert_eq!(params.repeated(&["resource"]), Some("d"));
        assert_eq!(params.repeated(&["d", "resource"]), None);
    }
}
