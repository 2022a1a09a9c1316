//! Request parameters, from a query or a form.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use url::form_urlencoded;

use crate::error::{ErrorCode, OAuthError};

/// How much of a name that a client made up is quoted back, in characters.
const SHOWN: usize = 40;

/// The parameters of one request, in the order they were sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Decodes `application/x-www-form-urlencoded` bytes. Total: what cannot be decoded becomes U+FFFD, which no
    /// parameter accepts. One without a value counts as not sent (RFC 6749 3.1).
    pub fn parse(encoded: &[u8]) -> Self {
        let sent = form_urlencoded::parse(encoded).into_owned();
        Self(sent.filter(|(_, value)| !value.is_empty()).collect())
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

    /// A parameter that may be sent once.
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

    /// A text that may be sent once and is given back as it came: what an answer could not carry is refused.
    ///
    /// # Errors
    /// `invalid_request` when it was sent more than once, is longer than `most` bytes, was not UTF-8 or has a control
    /// character (RFC 6749 A), of which a form makes something else.
    pub fn returned(&self, name: &str, most: usize) -> Result<Option<&str>, OAuthError> {
        let text = self.one(name)?;
        let why = match text {
            Some(text) if text.len() > most => format!("{name} is longer than {most} characters"),
            Some(text) if text.contains(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER) => {
                format!("{name} has a control character or is not UTF-8, so it could not be given back as it came")
            }
            text => return Ok(text),
        };
        Err(OAuthError::new(ErrorCode::InvalidRequest, why))
    }

    /// Whether nothing was sent more than once but what is among `repeatable` (RFC 6749 3.1).
    ///
    /// # Errors
    /// `invalid_request` that names the first one that was.
    pub fn once_each(&self, repeatable: &[&str]) -> Result<(), OAuthError> {
        let mut seen = BTreeSet::new();
        let mut names = self.0.iter().map(|(name, _)| name.as_str());
        match names.find(|name| !repeatable.contains(name) && !seen.insert(*name)) {
            None => Ok(()),
            Some(name) => {
                let name: String = name.chars().take(SHOWN).collect();
                let why = format!("{name} was sent more than once");
                Err(OAuthError::new(ErrorCode::InvalidRequest, why))
            }
        }
    }

    /// Every value of a parameter that may be repeated.
    pub fn many<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
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
        let repeated = params.once_each(&["resource"]).unwrap_err();
        assert_eq!(repeated.description(), "d was sent more than once");
        assert!(params.once_each(&["d", "resource"]).is_ok());
        let made_up = Params::parse(format!("{0}=1&{0}=1", "x".repeat(500)).as_bytes());
        assert!(made_up.once_each(&[]).unwrap_err().description().len() < 80);
        assert_eq!(Params::parse(b"=&=&a=&&").len(), 0);
        assert!(Params::parse(b"=&=&a=&&").is_empty());
    }

    #[test]
    fn what_could_not_be_given_back_as_it_came_is_refused() {
        let state = |form: &[u8]| {
            Params::parse(form)
                .returned("state", 9)
                .map(|text| text.map(str::to_owned))
        };
        assert_eq!(state(b"x=1").unwrap(), None);
        assert_eq!(
            state("state=%C3%BC+%2B\"<".as_bytes()).unwrap().as_deref(),
            Some("\u{fc} +\"<")
        );
        for bad in [
            "state=%00",
            "state=a%0Ab",
            "state=%0D",
            "state=%7F",
            "state=%FF",
            "state=%C2%85",
        ] {
            let error = state(bad.as_bytes()).unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidRequest, "{bad}");
            assert!(
                error.description().starts_with("state has a control character"),
                "{error}"
            );
        }
        let long = state(b"state=1234567890").unwrap_err();
        assert_eq!(long.description(), "state is longer than 9 characters");
    }
}
