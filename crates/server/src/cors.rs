//! Which pages in a caller's browser may use an endpoint.
//!
//! Identity on a tailnet is ambient: a page of any origin could make its visitor's browser send requests with the
//! visitor's identity. Endpoints that only give public documents are open to all pages without credentials;
//! registration is open to loopback pages and listed ones, and everything else to our own pages only.

use http::{
    HeaderMap, HeaderValue,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_MAX_AGE, ORIGIN, VARY,
    },
};

use crate::route::{Cors, Route};

const ALLOWED_HEADERS: &str = "authorization, content-type, mcp-protocol-version";

/// Whether a request to register may come from where it comes from: not from a browser at all, or from a page that is
/// admitted. A browser that names no origin but says that a page caused the request is not believed.
pub(crate) fn may_register(headers: &HeaderMap, listed: &[String]) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (Some(origin), None) => origin.to_str().is_ok_and(|origin| is_admitted(origin, listed)),
        (Some(_), Some(_)) => false,
        (None, _) => headers.get("sec-fetch-site").is_none_or(|site| site == "none"),
    }
}

fn is_admitted(origin: &str, listed: &[String]) -> bool {
    is_loopback(origin) || listed.iter().any(|listed| listed == origin)
}

fn is_loopback(origin: &str) -> bool {
    ["http://localhost", "http://127.0.0.1"].iter().any(|prefix| {
        origin.strip_prefix(prefix).is_some_and(|rest| {
            rest.is_empty() || rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
        })
    })
}

/// Adds the headers by which a browser learns that the page of this request may read the answer.
pub(crate) fn open(route: Route, request: &HeaderMap, listed: &[String], reply: &mut HeaderMap) {
    match route.cors() {
        Cors::SameOrigin => {}
        Cors::Anyone => {
            reply.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
        Cors::Registration => {
            reply.append(VARY, HeaderValue::from_static("Origin"));
            if let Some(origin) = request.get(ORIGIN)
                && may_register(request, listed)
            {
                reply.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            }
        }
    }
}

/// Adds what a preflight asks for.
pub(crate) fn preflight(route: Route, reply: &mut HeaderMap) {
    reply.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(route.allowed()));
    reply.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(ALLOWED_HEADERS));
    reply.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    #[test]
    fn registration_is_for_programs_loopback_pages_and_listed_ones() {
        let listed = ["https://inspector.example".to_owned()];
        for good in [
            headers(&[]),
            headers(&[("sec-fetch-site", "none")]),
            headers(&[("origin", "http://localhost:6274"), ("sec-fetch-site", "cross-site")]),
            headers(&[("origin", "http://127.0.0.1")]),
            headers(&[("origin", "https://inspector.example")]),
        ] {
            assert!(may_register(&good, &listed), "{good:?}");
        }
        for bad in [
            headers(&[("origin", "https://evil.example")]),
            headers(&[("origin", "null")]),
            headers(&[("origin", "http://localhost.evil.example")]),
            headers(&[("origin", "http://localhost:6274"), ("origin", "https://evil.example")]),
            headers(&[("origin", "http://localhost:x")]),
            headers(&[("sec-fetch-site", "cross-site")]),
            headers(&[("sec-fetch-site", "same-site")]),
        ] {
            assert!(!may_register(&bad, &listed), "{bad:?}");
        }
    }
}
