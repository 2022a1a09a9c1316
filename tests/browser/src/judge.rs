//! What must hold of an attack whichever way the server is reached.

use serde_json::{Value, json};

use crate::Scene;

/// Bob's page knows the ticket of the consent page that alice has open.
///
/// # Panics
/// When it gets a code, or alice's own click no longer counts.
pub async fn forgery(scene: &Scene) {
    let seen = scene.play("forgery").await;
    assert_eq!(seen["forged"]["answers"], json!([]), "nothing reached the application");
    let refused = json!([["/authorize/consent", 400], ["/authorize/consent", 400]]);
    assert_eq!(seen["forged"]["statuses"], refused);
    assert!(
        seen["answers"][0]["code"].is_string(),
        "the person's own click still counts: {seen}"
    );
}

/// Bob's page knows the tickets of the pages by which alice takes back what she gave, and logs out.
///
/// # Panics
/// When it ends something, or alice's own click does not.
pub async fn takeaway(scene: &Scene) {
    let seen = scene.play("takeaway").await;
    for (forged, path) in [("ended", "/me"), ("left", "/logout/answer")] {
        assert_eq!(seen[forged], json!([[path, 400], [path, 400]]), "{seen}");
    }
    let (before, still, after) = (&seen["forms"], &seen["still"], &seen["after"]);
    assert!(before.as_u64() > Some(1) && still == before, "{seen}");
    assert!(after.as_u64() < before.as_u64(), "she logged out herself: {seen}");
}

/// Bob's page registers a client as alice, by this scenario.
///
/// # Panics
/// When a client is stored, or his page reads an answer.
pub async fn registration(scene: &Scene, scenario: &str) -> Value {
    let seen = scene.play(scenario).await;
    assert_eq!(seen["read"], Value::Null, "{seen}");
    let statuses = seen["statuses"].as_array().expect("a list");
    assert!(statuses.iter().all(|status| status[1] != 201), "{seen}");
    no_client_of_mallorys(scene).await;
    seen
}

/// Nothing that bob's page sent became a client.
///
/// # Panics
/// When there is one.
pub async fn no_client_of_mallorys(scene: &Scene) {
    let audit = scene.stage.store().audit(None, 100).await.expect("an audit trail");
    let registered = audit.iter().filter(|(_, line)| line.contains("client_registered"));
    assert_eq!(registered.count(), 2, "only those that alice registered: {audit:?}");
}

/// Bob's page uses a consent that alice lets the server remember. Gives what the application was told when alice
/// herself went there with `prompt=none`.
///
/// # Panics
/// When a part of his page gets a code.
pub async fn remembered_consent(scene: &Scene) -> Value {
    let seen = scene.play("remembered").await;
    let answers = seen["answers"].as_array().expect("a list");
    assert!(answers.iter().all(|answer| answer["code"].is_null()), "{seen}");
    let audit = scene.stage.store().audit(None, 100).await.expect("an audit trail");
    let silent = audit.iter().filter(|(_, line)| line.contains("code_without_click"));
    let whole = seen["whole"]["code"].is_string();
    assert_eq!(silent.count(), usize::from(whole), "{audit:?}");
    seen["whole"].clone()
}

/// Bob's page has the code of a flow that alice completed, without the verifier.
///
/// # Panics
/// When the token endpoint gives it anything.
pub async fn interception(scene: &Scene) {
    let seen = scene.play("token").await;
    let replies = seen["replies"].as_array().expect("a list");
    assert_eq!(replies.len(), 4);
    for reply in &replies[..3] {
        assert!(matches!(reply[0].as_u64(), Some(400 | 401 | 403)), "{reply}");
        assert!(reply[1]["access_token"].is_null(), "{reply}");
    }
    assert_eq!(replies[3][0], 0, "introspection is not for pages to read: {seen}");
}
