//! Resource indicators (RFC 8707): which server a token is for.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::{
    error::{ErrorCode, OAuthError},
    params::Params,
};

/// A resource as it was asked for. Comparison is by canonical form, because clients differ in the case of the host and in a
/// trailing slash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Resource(String);

/// How many servers one token may be for.
const MAX_RESOURCES: usize = 8;

impl Resource {
    /// The longest resource that is accepted, in bytes.
    pub const MAX_LEN: usize = 1024;

    /// Reads one `resource` parameter.
    ///
    /// # Errors
    /// `invalid_target` unless it is an absolute URI without a fragment.
    pub fn parse(text: &str) -> Result<Self, OAuthError> {
        let invalid = |why| OAuthError::new(ErrorCode::InvalidTarget, format!("resource {why}"));
        if text.len() > Self::MAX_LEN {
            return Err(invalid("is longer than 1024 characters"));
        }
        // RFC 3986 2: the rest is percent-encoded, and could otherwise look like something else on a page.
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(invalid("has a character that must be percent-encoded"));
        }
        if text.contains('#') {
            return Err(invalid("must not have a fragment"));
        }
        match Url::parse(text) {
            Ok(url) if url.username().is_empty() && url.password().is_none() => Ok(Self(text.to_owned())),
            _ => Err(invalid("must be an absolute URI")),
        }
    }

    /// The resources that a request names, each once; `default` when it names none.
    ///
    /// # Errors
    /// `invalid_target` for a malformed one, and when it is sent more than 8 times.
    pub fn requested(params: &Params, default: Option<&Self>) -> Result<Vec<Self>, OAuthError> {
        let mut resources: Vec<Self> = Vec::new();
        // Those that say the same are counted as well: each is compared with all the others.
        if params.many("resource").nth(MAX_RESOURCES).is_some() {
            return Err(OAuthError::new(
                ErrorCode::InvalidTarget,
                "resource may be sent at most 8 times",
            ));
        }
        for text in params.many("resource") {
            let resource = Self::parse(text)?;
            if !resources.iter().any(|known| known.is(resource.as_str())) {
                resources.push(resource);
            }
        }
        if resources.is_empty() {
            resources.extend(default.cloned());
        }
        Ok(resources)
    }

    /// What a token for these servers says in `aud`, where each looks for its own name: the text that the client wrote, and the
    /// canonical form where that is another. Some clients write a slash behind the host which the server's name does not have.
    pub(crate) fn audience(resources: &[Self]) -> Value {
        let mut names: Vec<String> = Vec::new();
        for resource in resources {
            for name in [resource.0.clone(), canonical(&resource.0)] {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        match names.as_slice() {
            [one] => Value::from(one.as_str()),
            _ => Value::from(names),
        }
    }

    /// The text as it was asked for.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host it names, if it names one.
    pub fn host(&self) -> Option<String> {
        Url::parse(&self.0).ok()?.host_str().map(str::to_owned)
    }

    /// Whether both name the same resource.
    pub fn is(&self, other: &str) -> bool {
        self.0 == other || canonical(&self.0) == canonical(other)
    }

    /// Whether a rule may write `pattern` for resources: another one could never cover any.
    pub(crate) fn is_pattern(pattern: &str) -> bool {
        let base = pattern.strip_suffix("/*").unwrap_or(pattern);
        pattern == "*" || (!base.contains('*') && Self::parse(base).is_ok())
    }

    /// Whether a rule's pattern covers it: `*`, the resource itself, `https://host/path/*` for what is below, or
    /// `https://host/*` for everything there, the host alone included.
    pub fn is_covered_by(&self, pattern: &str) -> bool {
        match pattern.strip_suffix("/*") {
            Some(base) => {
                // Dot segments are resolved by the parser, so a path cannot climb out of the prefix.
                let (base, own) = (canonical(base), canonical(&self.0));
                let is_host = base.matches('/').count() == 2;
                own.strip_prefix(base.as_str())
                    .is_some_and(|rest| rest.starts_with('/') || (is_host && rest.is_empty()))
            }
            None => pattern == "*" || self.is(pattern),
        }
    }
}

/// Scheme and host in lower case, no default port, no slash for an empty path.
fn canonical(text: &str) -> String {
    let Ok(url) = Url::parse(text) else {
        return text.to_owned();
    };
    let text = String::from(url);
    let is_bare = text.matches('/').count() == 3 && text.ends_with('/');
    if is_bare {
        text.trim_end_matches('/').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resource(text: &str) -> Resource {
        Resource::parse(text).unwrap()
    }

    #[test]
    fn comparison_ignores_what_clients_get_wrong_and_nothing_else() {
        assert!(resource("https://MCP.example/").is("https://mcp.example"));
        assert!(resource("HTTPS://mcp.example:443/mcp").is("https://mcp.example/mcp"));
        assert!(!resource("https://mcp.example/mcp/").is("https://mcp.example/mcp"));
        assert!(!resource("https://mcp.example/MCP").is("https://mcp.example/mcp"));
        assert!(!resource("http://mcp.example").is("https://mcp.example"));
    }

    #[test]
    fn a_token_names_its_server_as_the_client_wrote_it_and_as_the_server_does() {
        let audience =
            |texts: &[&str]| Resource::audience(&texts.iter().map(|text| resource(text)).collect::<Vec<_>>());
        assert_eq!(audience(&["https://mcp.example/mcp"]), json!("https://mcp.example/mcp"));
        assert_eq!(audience(&["https://mcp.example"]), json!("https://mcp.example"));
        assert_eq!(
            audience(&["https://mcp.example/"]),
            json!(["https://mcp.example/", "https://mcp.example"])
        );
        assert_eq!(
            audience(&["HTTPS://MCP.example:443/mcp", "https://b.example"]),
            json!([
                "HTTPS://MCP.example:443/mcp",
                "https://mcp.example/mcp",
                "https://b.example"
            ])
        );
    }

    #[test]
    fn a_prefix_covers_what_is_below_it_only() {
        let covered = |text| resource(text).is_covered_by("https://mcp.example/*");
        assert!(covered("https://mcp.example/a/b"));
        assert!(covered("https://mcp.example/") && covered("https://MCP.example") && covered("https://mcp.example?x"));
        assert!(!covered("https://mcp.example.evil/a"));
        assert!(!covered("https://mcp.example:8443/a"));
        let below = |text| resource(text).is_covered_by("https://mcp.example/team/*");
        assert!(below("https://mcp.example/team/a"));
        assert!(!below("https://mcp.example/team"));
        assert!(!below("https://mcp.example/teamwork/a"));
        assert!(!below("https://mcp.example/team/../admin"));
    }

    #[test]
    fn a_pattern_is_one_resource_or_all_below_it_or_everything() {
        for good in [
            "*",
            "https://mcp.example",
            "https://mcp.example/*",
            "https://mcp.example/a/*",
            "urn:mcp",
        ] {
            assert!(Resource::is_pattern(good), "{good}");
        }
        for bad in [
            "",
            "mcp.example",
            "https://*",
            "https://*.example/*",
            "https://mcp.example*",
            "https://a/*/*",
            "**",
        ] {
            assert!(!Resource::is_pattern(bad), "{bad}");
        }
    }

    #[test]
    fn a_request_names_each_resource_once_and_the_default_stands_in_for_none() {
        let requested = |form: &str| Resource::requested(&Params::parse(form.as_bytes()), Some(&resource("https://d")));
        assert_eq!(requested("scope=x").unwrap(), [resource("https://d")]);
        let twice = requested("resource=https://a&resource=https://A/&resource=https://b").unwrap();
        assert_eq!(twice, [resource("https://a"), resource("https://b")]);
        let many: String = (0..9).map(|n| format!("&resource=https://{n}.example")).collect();
        assert_eq!(requested(&many).unwrap_err().code(), ErrorCode::InvalidTarget);
        let same = "&resource=https://a".repeat(9);
        assert_eq!(requested(&same).unwrap_err().code(), ErrorCode::InvalidTarget);
    }

    #[test]
    fn what_is_not_an_absolute_uri_is_refused() {
        for bad in [
            "mcp",
            "/mcp",
            "https://a.example/#x",
            "https://a.example/\u{202e}x",
            "https://a.example/ x",
            "https://u:p@a.example/",
            &"x:".repeat(600),
        ] {
            assert_eq!(
                Resource::parse(bad).unwrap_err().code(),
                ErrorCode::InvalidTarget,
                "{bad}"
            );
        }
    }
}
