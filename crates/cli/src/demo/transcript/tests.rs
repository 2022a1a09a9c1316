use super::*;

async fn transcript(colour: bool) -> String {
    let mut out = Vec::new();
    let mut transcript = Transcript::new(&mut out, colour);
    transcript.section("The tailnet");
    transcript
        .step("alice joins", async { Ok(((), "100.64.0.2".to_owned())) })
        .await
        .unwrap();
    transcript.note("as an engineer");
    let failed = transcript
        .step::<()>("bob joins", async { Err("authkey expired".into()) })
        .await;
    assert!(failed.is_err());
    assert_eq!(transcript.steps(), 1);
    String::from_utf8(out).unwrap()
}

#[tokio::test]
async fn steps_stand_in_columns_and_failures_say_why() {
    let text = transcript(false).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[1], "1  The tailnet");
    assert!(
        lines[2].starts_with("   ✓ alice joins") && lines[2].ends_with(" ms"),
        "{text}"
    );
    assert_eq!(lines[3], "     as an engineer");
    assert!(
        lines[4].starts_with("   ✗ bob joins") && lines[4].contains("failed"),
        "{text}"
    );
    assert_eq!(lines[5], "     authkey expired");
    assert_eq!(
        lines[2].chars().count(),
        lines[4].chars().count(),
        "times stand in one column"
    );
    assert!(!text.contains('\x1b'));
}

#[tokio::test]
async fn colour_changes_no_words() {
    let coloured = transcript(true).await;
    assert!(coloured.contains(GREEN) && coloured.contains(RED));
    assert!(coloured.contains("   … alice joins\r\x1b[K"));
}

#[test]
fn short_times_have_a_decimal() {
    assert_eq!(millis(Duration::from_micros(1_234)), "1.2");
    assert_eq!(millis(Duration::from_micros(9_960)), "10");
    assert_eq!(millis(Duration::from_millis(1_234)), "1234");
}
