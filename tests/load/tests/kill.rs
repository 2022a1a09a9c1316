//! `kill -9` at random moments of a load of registrations, consents, codes and refreshes, and of a person's remembered
//! consents and pushed requests: nothing that was acknowledged is lost, and nothing single-use is spent twice.
//!
//! 5 kills, or 50 with `COUNTERSIGN_FULL=1` (`tests/run --full`), or as many as `LOAD_KILLS` says. `LOAD_SEED` repeats the choices of a run; when
//! exactly the kill hits is up to the machine.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use std::{sync::Arc, time::Duration};

use countersign_flow_tests::{ALICE, Scene, Served};
use countersign_load_tests::{Book, Connection, Load, Person, Target};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tailnet_testkit::AuthKeySpec;

const WORKERS: u64 = 8;
const ISSUER: &str = "http://idp.tailnet.test";

/// Starts the server on its state folder; without limits, which would stop the load.
async fn start(scene: &Scene, key: &[String]) -> Served {
    let mut flags = scene.flags("idp");
    flags.extend_from_slice(key);
    let limits = [
        "--dcr-max-clients-per-user",
        "0",
        "--rate-limit-per-peer",
        "0",
        "--log",
        "error",
    ];
    flags.extend(limits.map(str::to_owned));
    let served = Served::start(&scene.path(""), &flags);
    served.status().await;
    served
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_and_nothing_is_spent_twice_by_kill_9() {
    let full = std::env::var_os("COUNTERSIGN_FULL").is_some();
    let rounds: u64 = match std::env::var("LOAD_KILLS") {
        Ok(kills) => kills.parse().unwrap(),
        Err(_) if full => 50,
        Err(_) => 5,
    };
    let seed = match std::env::var("LOAD_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => SmallRng::from_os_rng().random::<u64>(),
    };
    println!("LOAD_SEED={seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let scene = Scene::new().await;
    let key = scene.key_file(AuthKeySpec::tags(&["tag:internal-idp"]));
    let mut served = start(&scene, &["--auth-key-file".to_owned(), key.display().to_string()]).await;
    let alice = Arc::new(scene.person("alice", ALICE).await);
    let target = Target::plain(ISSUER);

    // A node of her own: on that of the load, new sessions crowd out old ones.
    let phone = scene.person("phone", ALICE).await;
    let mut person = Person::new(&mut Connection::open(&phone, &target).await, rng.random()).await;
    let published = served.beside(&["client", "publish", person.client()]).await;
    assert_eq!(published.status.code(), Some(0), "{published:?}");

    let (mut past, mut acknowledged, mut unanswered) = (Book::default(), 0, 0);
    for round in 0..rounds {
        let load = Load::start(&alice, &target, WORKERS, rng.random()).await;
        let busy = person.start(&phone, &target).await;
        while load.acknowledged() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_micros(rng.random_range(0..600_000))).await;
        served.signal("KILL");
        served.ended().await;
        // Answers that were on their way still count.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let told = load.acknowledged();
        let mut book = load.stop().await;
        person = busy.stop().await;
        let ((clients, journeys), (consents, pushed)) = (book.len(), person.len());
        println!(
            "kill {round}: {told} acknowledgements, {clients} clients, {journeys} authorizations, {} of them in the air, \
             {consents} consents remembered, {pushed} requests pushed",
            book.unsure()
        );
        acknowledged += told;
        unanswered += book.unsure();

        served = start(&scene, &[]).await;
        let mut connection = Connection::open(&alice, &target).await;
        book.verify(&mut connection, &mut rng).await;
        past.verify(&mut connection, &mut rng).await;
        person.verify(&mut Connection::open(&phone, &target).await).await;
        past.absorb(book, &mut rng);
    }
    println!("{rounds} kills, {acknowledged} acknowledgements, {unanswered} requests in the air");
    assert!(acknowledged > 20 * rounds, "the load was hardly one: {acknowledged}");
    assert!(person.len().0 > 0, "nothing was remembered");
    assert!(unanswered > 0, "no kill hit a request");
    assert_eq!(served.stop().await.0, Some(0));
}
