//! `just bench oauth`: what an operation of the OAuth side costs the server, beside tsidp in the same run.
//!
//! Both servers are processes of their own on one in-process tailnet, asked over TLS by a node of ours in this process:
//! only the CPU time of the server's process is counted. Ours is durable and asks for consent; tsidp (`cmd/tsidp`
//! 1.98.10) keeps everything in memory and has neither consent, refresh, introspection nor registration. Needs no root.
//!
//! `oauth-bench [--ours] [WORD...]`: only the operations that begin with one of the words (`memory`: what 10,000 clients
//! take), and without tsidp.

mod operations;
mod servers;

use std::{process::ExitCode, time::Instant};

use countersign_load_tests::Connection;
use tokio::task::JoinSet;

use crate::{
    operations::{OPERATIONS, Operation, REGISTRATION, Session},
    servers::{Kind, Running, Stage},
};

/// Connections that ask at the same time.
const CONNECTIONS: usize = 16;
/// Enough for 1 % of a clock that ticks every 10 ms.
const CPU_SECONDS: f64 = 1.0;
const ROUNDS: usize = 3;
/// Operations of one session between two looks at the clock.
const BATCH: usize = 50;

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("oauth-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    println!("\n### OAuth over TLS on the tailnet, {CONNECTIONS} connections, server CPU per operation\n");
    println!("Load average {} before.\n", load_average());
    let stage = Stage::start().await?;
    let (flags, words): (Vec<String>, _) = std::env::args().skip(1).partition(|word| word == "--ours");
    let ours = measured(&stage, Kind::Ours, &words).await?;
    let mut tsidp = Vec::new();
    if flags.is_empty() {
        match measured(&stage, Kind::Tsidp, &words).await {
            Ok(figures) => tsidp = figures,
            Err(error) => println!("tsidp could not be measured: {error}\n"),
        }
    }
    println!("| operation | ours, ms | per s | tsidp, ms | per s | ratio | goal, ms |\n|---|---|---|---|---|---|---|");
    for figure in &ours {
        let rival = tsidp.iter().find(|rival| rival.name == figure.name);
        let (cpu, rate, ratio) = rival.map_or_else(
            || ("-".to_owned(), "-".to_owned(), "-".to_owned()),
            |rival| {
                (
                    format!("{:.3}", rival.cpu_ms),
                    format!("{:.0}", rival.per_second),
                    format!("{:.2}", figure.cpu_ms / rival.cpu_ms),
                )
            },
        );
        println!(
            "| {} | {:.3} | {:.0} | {cpu} | {rate} | {ratio} | {} |",
            figure.name, figure.cpu_ms, figure.per_second, figure.goal
        );
    }
    println!("\nLoad average {} after.", load_average());
    Ok(())
}

/// What one operation cost: the median of the rounds.
struct Figure {
    name: &'static str,
    goal: &'static str,
    cpu_ms: f64,
    per_second: f64,
}

async fn measured(stage: &Stage, kind: Kind, words: &[String]) -> Result<Vec<Figure>> {
    let server = stage.serve(kind).await?;
    let start = server.process.usage()?;
    let mut sessions = Vec::new();
    for _ in 0..CONNECTIONS {
        let connection = Connection::open(&stage.alice, &server.target).await;
        sessions.push(Session::new(kind, connection, stage.alice_number()?));
    }
    if kind == Kind::Ours && (words.is_empty() || words.iter().any(|word| word == "memory")) {
        registrations(&server, &mut sessions).await?;
    }
    let mut figures = Vec::new();
    let wanted = |operation: &&Operation| {
        (kind == Kind::Ours || operation.tsidp)
            && (words.is_empty() || words.iter().any(|word| operation.name.starts_with(word.as_str())))
    };
    for operation in OPERATIONS.iter().filter(wanted) {
        figures.push(figure(&server, operation, &mut sessions).await?);
    }
    let end = server.process.usage()?;
    println!(
        "{}: RSS {:.0} MiB at start, {:.0} MiB at the end, {:.0} MiB at most{}\n",
        kind.label(),
        start.rss_mib,
        end.rss_mib,
        end.peak_rss_mib,
        server
            .database_mib()
            .map_or_else(String::new, |mib| format!("; database {mib:.0} MiB")),
    );
    Ok(figures)
}

async fn figure(server: &Running, operation: &'static Operation, sessions: &mut Vec<Session>) -> Result<Figure> {
    // First a few, so that what the operation needs is there and warm.
    batch(operation, sessions, 10).await?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let (begun, before) = (Instant::now(), server.process.usage()?.cpu_seconds);
        let mut done = 0;
        let cpu = loop {
            done += batch(operation, sessions, BATCH).await?;
            let cpu = server.process.usage()?.cpu_seconds - before;
            if cpu >= CPU_SECONDS {
                break cpu;
            }
        };
        rounds.push((cpu * 1e3 / done as f64, done as f64 / begun.elapsed().as_secs_f64()));
    }
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (cpu_ms, per_second) = rounds.get(rounds.len() / 2).copied().unwrap_or_default();
    Ok(Figure {
        name: operation.name,
        goal: operation.goal,
        cpu_ms,
        per_second,
    })
}

/// Every session does the operation `times` times; says how many that were.
async fn batch(operation: &'static Operation, sessions: &mut Vec<Session>, times: usize) -> Result<usize> {
    let mut tasks = JoinSet::new();
    for mut session in sessions.drain(..) {
        tasks.spawn(async move {
            for _ in 0..times {
                (operation.run)(&mut session).await?;
            }
            Ok::<_, String>(session)
        });
    }
    while let Some(session) = tasks.join_next().await {
        sessions.push(session??);
    }
    Ok(times * sessions.len())
}

/// Memory of a new server with 10,000 clients.
async fn registrations(server: &Running, sessions: &mut Vec<Session>) -> Result<()> {
    let register = OPERATIONS.iter().find(|operation| operation.name == REGISTRATION);
    let Some(register) = register else { return Ok(()) };
    batch(register, sessions, 10_000 / CONNECTIONS).await?;
    let usage = server.process.usage()?;
    println!(
        "ours after 10,000 registrations: RSS {:.0} MiB, {:.0} MiB at most; database {:.0} MiB\n",
        usage.rss_mib,
        usage.peak_rss_mib,
        server.database_mib().unwrap_or_default()
    );
    Ok(())
}

fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}
