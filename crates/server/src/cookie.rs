//! Cookies of this server: small secrets that tie an answer to the browser it was given to.
//!
//! On https their names begin with `__Host-`, so that no sibling host of the tailnet can set them; Chromium stores no such
//! name on http, where they are plain. No script reads any of them.

use countersign_oauth::{secret::SecretHash, session::SESSION_LIFETIME};
use http::{
    HeaderMap, HeaderValue,
    header::{COOKIE, SET_COOKIE},
};

use crate::reply::Reply;

/// One cookie by its name and rules.
pub(crate) struct Cookie {
    name: String,
    https: bool,
    same_site: &'static str,
    /// Seconds.
    max_age: i64,
}

impl Cookie {
    /// The cookie of the page that holds `ticket`, one for each page: a browser does not send a Strict cookie on the
    /// navigation that starts a login, so a single one would be replaced by each new page and break the ones before it.
    pub(crate) fn of_page(ticket: &str, https: bool) -> Self {
        // A hash, so that the name gives nothing of the ticket away.
        let mark: String = SecretHash::of(ticket).to_text().chars().take(12).collect();
        Self::named(&format!("consent-{mark}"), "Strict", 600, https)
    }

    /// The cookie of the session. Lax, because a login begins with a navigation from another site.
    pub(crate) fn of_session(https: bool) -> Self {
        Self::named("countersign_session", "Lax", SESSION_LIFETIME.whole_seconds(), https)
    }

    fn named(name: &str, same_site: &'static str, max_age: i64, https: bool) -> Self {
        let prefix = if https { "__Host-" } else { "" };
        Self {
            name: format!("{prefix}{name}"),
            https,
            same_site,
            max_age,
        }
    }

    /// What the browser sent; the first one where several have the name.
    pub(crate) fn find(&self, headers: &HeaderMap) -> Option<String> {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        cookies
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(name, _)| *name == self.name)
            .map(|(_, value)| value.to_owned())
    }

    /// Gives it to the browser.
    pub(crate) fn set(&self, value: &str, reply: &mut Reply) {
        self.write(value, self.max_age, reply);
    }

    /// Takes it from the browser.
    pub(crate) fn forget(&self, reply: &mut Reply) {
        self.write("", 0, reply);
    }

    fn write(&self, value: &str, max_age: i64, reply: &mut Reply) {
        let secure = if self.https { "; Secure" } else { "" };
        let text = format!(
            "{}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite={}{secure}",
            self.name, self.same_site
        );
        if let Ok(value) = HeaderValue::from_str(&text) {
            reply.headers_mut().append(SET_COOKIE, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{reply, status};

    fn written(cookie: &Cookie) -> String {
        let mut reply = reply::body(status::FOUND, "text/plain", "");
        cookie.set("v", &mut reply);
        reply.headers()[SET_COOKIE].to_str().unwrap().to_owned()
    }

    #[test]
    fn names_and_rules_fit_the_scheme() {
        assert_eq!(
            written(&Cookie::of_session(true)),
            "__Host-countersign_session=v; Path=/; Max-Age=43200; HttpOnly; SameSite=Lax; Secure"
        );
        assert_eq!(
            written(&Cookie::of_session(false)),
            "countersign_session=v; Path=/; Max-Age=43200; HttpOnly; SameSite=Lax"
        );
        let page = written(&Cookie::of_page("ticket", true));
        assert!(
            page.starts_with("__Host-consent-") && page.contains("SameSite=Strict"),
            "{page}"
        );
        assert!(!page.contains("ticket"));
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("xcountersign_session=a; other=b"));
        headers.append(COOKIE, HeaderValue::from_static("countersign_session=c"));
        assert_eq!(Cookie::of_session(false).find(&headers).as_deref(), Some("c"));
        assert_eq!(Cookie::of_session(true).find(&headers), None);
    }
}
