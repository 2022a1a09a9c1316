use super::*;

fn visits() -> Visits {
    Visits::new("https://idp.example", "c1", "http://127.0.0.1:8080/callback".to_owned())
}

fn state(path: &str) -> String {
    let (_, query) = path.split_once('?').unwrap();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(name, _)| name == "state").unwrap().1.into_owned()
}

#[test]
fn an_answer_is_taken_once_and_with_the_verifier_of_its_visit() {
    let visits = visits();
    let (_, _) = visits.begin(None).unwrap();
    let (path, verifier) = visits.begin(None).unwrap();
    let answer = format!("code=abc&state={}&iss=https://idp.example", state(&path));
    let back = visits.back(&answer).unwrap();
    assert_eq!((back.code.as_str(), &back.verifier), ("abc", &verifier));
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier));
    assert!(path.contains(&challenge));
    assert!(visits.back(&answer).is_err());
}

#[test]
fn foreign_and_refused_answers_say_what_is_wrong() {
    let visits = visits();
    let wrong = |rest: &str| {
        let (path, _) = visits.begin(None).unwrap();
        let answer = visits.back(&format!("state={}&{rest}", state(&path)));
        answer.map(|back| back.code).unwrap_err()
    };
    assert!(wrong("code=abc").contains("not from the server"));
    assert!(wrong("code=abc&iss=https://evil.example").contains("not from the server"));
    assert!(wrong("iss=https://idp.example").contains("no code"));
    let denied = wrong("iss=https://idp.example&error=access_denied&error_description=no+rule");
    assert_eq!(denied, "the server says access_denied: no rule");
}

#[test]
fn only_so_many_visits_are_remembered() {
    let visits = visits();
    let (first, _) = visits.begin(None).unwrap();
    for _ in 0..MAX_OPEN {
        visits.begin(None).unwrap();
    }
    assert_eq!(visits.open.lock().unwrap().len(), MAX_OPEN);
    assert!(
        visits
            .back(&format!("code=abc&state={}&iss=https://idp.example", state(&first)))
            .is_err()
    );
}
