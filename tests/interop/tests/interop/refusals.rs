//! What real Headscale says no to: one line that names the trouble, and an exit code that is not zero.

use std::time::Duration;

use countersign_interop_tests::{Lab, Result, Server, ServerOptions};

#[test]
#[ignore = "needs root and real peers: tests/run interop"]
fn a_key_that_is_wrong_or_used_or_expired_ends_the_start_with_a_reason() -> Result {
    let lab = Lab::shared()?;
    lab.headscale.set_policy(&Lab::open_policy())?;
    refused(
        &lab,
        "hskey-auth-000000000000-0000000000000000000000000000000000000000000000000000000000000000",
        &[],
    )?;

    let expired = lab.headscale.single_key("tag:internal-idp", "1s")?;
    std::thread::sleep(Duration::from_millis(1500));
    refused(&lab, &expired, &[])?;

    let once = lab.headscale.single_key("tag:internal-idp", "1h")?;
    drop(Server::start_with_key(&lab, ServerOptions::default(), &once)?);
    refused(&lab, &once, &[])
}

#[test]
#[ignore = "needs root and real peers: tests/run interop"]
fn tags_that_are_not_granted_end_the_start_with_a_reason() -> Result {
    let lab = Lab::shared()?;
    lab.headscale.set_policy(&Lab::open_policy())?;
    let key = lab.headscale.tagged_key("tag:bench")?;
    let said = refused_text(&lab, &key, &[])?;
    assert!(
        said.contains("tag:internal-idp"),
        "the missing tag is not named: {said}"
    );
    Ok(())
}

fn refused(lab: &Lab, key: &str, flags: &[&str]) -> Result {
    let said = refused_text(lab, key, flags)?;
    assert!(said.contains("key"), "the key is not named: {said}");
    Ok(())
}

fn refused_text(lab: &Lab, key: &str, flags: &[&str]) -> Result<String> {
    let (code, said) = Server::refused(lab, key, flags)?;
    println!("exit {code:?}: {said}");
    assert!(
        code.is_some_and(|code| code != 0 && code != 70),
        "exit {code:?}: {said}"
    );
    assert!(!said.contains("panicked"), "{said}");
    Ok(said)
}
