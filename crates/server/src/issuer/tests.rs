use super::*;

const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

fn issuer(text: &str) -> Issuer {
    Issuer::parse(text).unwrap()
}

#[test]
fn an_issuer_is_scheme_host_and_port() {
    assert_eq!(
        Issuer::derive(true, "IDP.example.ts.net.", 443).unwrap().as_str(),
        "https://idp.example.ts.net"
    );
    assert_eq!(
        Issuer::derive(false, "idp.example", 8080).unwrap().as_str(),
        "http://idp.example:8080"
    );
    assert_eq!(issuer("https://idp.example.ts.net:8443").short_name(), "idp");
    for bad in [
        "https://idp.example/",
        "https://idp.example/x",
        "https://IDP.example",
        "https://idp.example:443",
        "https://100.64.0.1",
        "ftp://idp.example",
        "https://u@idp.example",
        "idp.example",
        "https://idp.example?x",
    ] {
        assert!(Issuer::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_host_header_must_name_the_issuer_with_its_port() {
    let plain = issuer("https://idp.example.ts.net");
    assert_eq!(plain.name_of("idp.example.ts.net"), Some(Name::Full));
    assert_eq!(plain.name_of("IDP.example.ts.net:443"), Some(Name::Full));
    assert_eq!(plain.name_of("idp"), Some(Name::Short));
    for other in [
        "evil.example",
        "idp.example.ts.net:444",
        "idp.example.ts.net:x",
        "",
        "[::1]",
        "100.64.0.1",
    ] {
        assert_eq!(plain.name_of(other), None, "{other}");
    }
    assert_eq!(issuer("https://idp.example:8443").name_of("idp.example"), None);
}

#[tokio::test]
async fn the_issuer_is_fixed_at_first_start() {
    let store = Store::in_memory().unwrap();
    let (first, renamed) = (issuer("https://idp.example"), issuer("https://idp-1.example"));
    assert_eq!(check(&store, &first, None, NOW).await.unwrap(), first);
    assert_eq!(check(&store, &first, Some(&first), NOW).await.unwrap(), first);

    let error = check(&store, &renamed, None, NOW).await.unwrap_err().to_string();
    for remedy in [
        "rename the node back",
        "set issuer = \"https://idp.example\"",
        "countersign issuer change",
    ] {
        assert!(error.contains(remedy), "{error}");
    }
    assert_eq!(check(&store, &renamed, Some(&first), NOW).await.unwrap(), first);
    assert!(matches!(
        check(&store, &first, Some(&renamed), NOW).await,
        Err(IssuerError::Configured { .. })
    ));

    assert_eq!(breakage(&store, &renamed).await.unwrap().unwrap().clients, 0);
    change(&store, &renamed, NOW).await.unwrap();
    assert_eq!(check(&store, &renamed, None, NOW).await.unwrap(), renamed);
}
