//! Settings about tokens: how long things live, and what is said about people.
//!
//! Each span has bounds, because a value beyond them is a mistake in the unit or would break a promise: an access
//! token is believed elsewhere until it expires, so its lifetime is how late a revocation may bite.

use std::time::Duration;

use countersign_server::{ClaimSettings, TokenSettings};

use super::{
    Reader,
    parse::{self, Parsed},
};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const TEN_YEARS: u64 = 3650 * DAY;

impl Reader<'_> {
    pub(super) fn tokens(&mut self) -> Option<TokenSettings> {
        let access_token_lifetime = self.one("access_token_lifetime", |text| within(text, 30, 5 * MINUTE));
        let grant_lifetime = self.one("grant_lifetime", |text| within(text, 10 * MINUTE, TEN_YEARS));
        let refresh_grace = self.one("refresh_grace", refresh_grace);
        let signing_key_lifetime = self.one("signing_key_lifetime", |text| within(text, HOUR, TEN_YEARS));
        Some(TokenSettings {
            access_token_lifetime: access_token_lifetime?,
            grant_lifetime: grant_lifetime?,
            refresh_grace: refresh_grace?,
            signing_key_lifetime: signing_key_lifetime?,
        })
    }

    pub(super) fn claims(&mut self) -> Option<ClaimSettings> {
        let email_domain = self.one("email_domain", domain);
        Some(ClaimSettings {
            email_domain,
            verified_email_domains: self.many("verified_email_domains", domain)?,
        })
    }
}

/// `audit_retention`.
pub(super) fn audit_retention(text: &str) -> Parsed<Duration> {
    within(text, DAY, TEN_YEARS)
}

/// `refresh_grace`: 0 turns it off, and more than an hour would let a stolen token rest too long unnoticed.
fn refresh_grace(text: &str) -> Parsed<Duration> {
    match text {
        "0" | "0s" => Ok(Duration::ZERO),
        text => within(text, 1, HOUR).map_err(|why| format!("{why}, or 0 for no grace")),
    }
}

/// A span of whole seconds from `least` to `most` seconds.
fn within(text: &str, least: u64, most: u64) -> Parsed<Duration> {
    let span = parse::duration(text)?;
    if span.subsec_nanos() == 0 && (least..=most).contains(&span.as_secs()) {
        return Ok(span);
    }
    Err(format!(
        "`{text}` is out of range: give whole seconds from {} to {}",
        written(least),
        written(most)
    ))
}

/// Seconds in the largest unit that says them exactly.
fn written(seconds: u64) -> String {
    let units = [(DAY, "d"), (HOUR, "h"), (MINUTE, "m")];
    units
        .into_iter()
        .find(|(unit, _)| seconds.is_multiple_of(*unit))
        .map_or_else(
            || format!("{seconds}s"),
            |(unit, name)| format!("{}{name}", seconds / unit),
        )
}

/// The domain part of mail addresses, in lower case.
fn domain(text: &str) -> Parsed<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let fits = name.len() <= 253 && name.contains('.') && name.split('.').all(label);
    fits.then_some(name)
        .ok_or_else(|| format!("`{text}` is no mail domain: write it like example.com, without @"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_out_of_range_says_what_would_fit() {
        assert_eq!(within("5m", 30, 300), Ok(Duration::from_secs(300)));
        assert_eq!(
            within("301s", 30, 300).unwrap_err(),
            "`301s` is out of range: give whole seconds from 30s to 5m"
        );
        assert!(within("30500ms", 30, 300).is_err());
        assert_eq!(refresh_grace("0"), Ok(Duration::ZERO));
        assert!(refresh_grace("2h").unwrap_err().ends_with("to 1h, or 0 for no grace"));
        assert!(audit_retention("12h").unwrap_err().contains("from 1d to 3650d"));
    }

    #[test]
    fn a_domain_has_two_labels_and_no_at() {
        assert_eq!(domain("Example.COM.").as_deref(), Ok("example.com"));
        for bad in [
            "",
            "example",
            "@example.com",
            "a@example.com",
            "exa mple.com",
            "-a.com",
            "a..b",
            "*.example.com",
        ] {
            assert!(domain(bad).is_err(), "{bad}");
        }
    }
}
