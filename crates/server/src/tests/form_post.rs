//! `response_mode=form_post`: the page that carries an answer.

use super::{
    flow::{OURS, alice, authorize_path, click, field, page, redeem, registered},
    *,
};

const MODE: (&str, &str) = ("response_mode", "form_post");

fn value<'a>(html: &'a str, name: &str) -> &'a str {
    field(html, &format!("name=\"{name}\" value=\""), '"')
}

#[tokio::test]
async fn a_code_is_posted_by_a_page_without_inline_script() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let question = page(&mut alice, &id, &[MODE]).await;
    let answer = click(&mut alice, &question, &OURS).await;
    assert_eq!((answer.status, answer.header("location")), (StatusCode::OK, ""));
    assert_eq!(answer.header("cache-control"), "no-store");
    let policy = answer.header("content-security-policy");
    for directive in [
        "default-src 'none'",
        "script-src 'self'",
        "form-action http: http://localhost:5000;",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(directive), "{directive}: {policy}");
    }
    let html = &answer.text;
    assert!(
        html.contains("<form method=\"post\" action=\"http://localhost:5000/callback\">"),
        "{html}"
    );
    assert!(html.contains("<button type=\"submit\">Continue</button>"), "{html}");
    assert!(html.contains("<script src=\"/form-post.js\"></script>"), "{html}");
    assert_eq!(
        (value(html, "iss"), value(html, "state")),
        ("http://idp.example.ts.net", "st&amp;ate")
    );
    let tokens = redeem(&mut alice, &id, value(html, "code")).await;
    assert_eq!(tokens.status, StatusCode::OK, "{}", tokens.text);

    let script = alice.get("/form-post.js").await;
    assert_eq!(script.header("content-type"), "text/javascript; charset=utf-8");
    assert_eq!(script.text, "document.forms[0].submit();\n");
}

#[tokio::test]
async fn an_error_is_posted_as_well_and_nothing_of_the_request_becomes_markup() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let hostile = [MODE, ("scope", "x"), ("resource", "\"><script>alert(1)</script>")];
    let path = authorize_path(&id, &hostile).replace("st%26ate", "%22%3E%3Cscript%3E");
    let answer = alice.get(&path).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(value(&answer.text, "error"), "invalid_target");
    assert_eq!(value(&answer.text, "state"), "&quot;&gt;&lt;script&gt;");
    assert_eq!(answer.text.matches("<script").count(), 1);

    let unknown = alice.get(&authorize_path(&id, &[("response_mode", "fragment")])).await;
    assert!(unknown.header("location").contains("error=invalid_request"));
}

#[tokio::test]
async fn both_modes_are_advertised() {
    let rig = Rig::start(config()).await;
    let metadata = rig
        .client(&alice())
        .await
        .get("/.well-known/openid-configuration")
        .await;
    assert_eq!(
        metadata.json()["response_modes_supported"],
        json!(["query", "form_post"])
    );
}
