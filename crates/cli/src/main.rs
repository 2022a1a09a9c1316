//! The `countersign` binary: arguments, settings, logging, signals and wiring. Nothing is decided here; see
//! `docs/ARCHITECTURE.md` for where it is.

mod args;
mod commands;
mod config;
#[cfg(feature = "demo")]
mod demo;
mod exit;
mod log;
mod notify;
mod socket;
mod status;

use std::{path::Path, process::ExitCode, time::Instant};

use clap::Parser;

use crate::{
    args::{Cli, ClientTask, IssuerTask, Location, PolicyTask, Task},
    commands::complain,
    config::Inputs,
    exit::Exit,
};

/// Most of what a request allocates is freed by another thread than made it, for which glibc's arenas take locks.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let started = Instant::now();
    let exit = match Cli::parse().command {
        Task::Serve(flags) => commands::serve::run(flags.0, started),
        #[cfg(feature = "demo")]
        Task::Demo(args) => demo::run(&args),
        Task::Status(args) => at_state_dir(&args.location, async |dir| commands::status::run(&args, dir).await),
        Task::Ca(location) => at_state_dir(&location, async |dir| commands::ca::run(dir).await),
        Task::Issuer(IssuerTask::Change(args)) => {
            at_state_dir(&args.location, async |dir| commands::issuer::change(&args, dir).await)
        }
        Task::Policy(PolicyTask::Explain(args)) => {
            at_state_dir(&args.location, async |dir| commands::policy::explain(&args, dir).await)
        }
        Task::Client(task) => client(&task),
    };
    exit.into()
}

fn client(task: &ClientTask) -> Exit {
    match task {
        ClientTask::List(args) => at_state_dir(&args.location, async |dir| commands::client::list(args, dir).await),
        ClientTask::Publish(args) => at_state_dir(&args.location, async |dir| {
            commands::client::publish(&args.id, true, dir).await
        }),
        ClientTask::Unpublish(args) => at_state_dir(&args.location, async |dir| {
            commands::client::publish(&args.id, false, dir).await
        }),
    }
}

/// Runs a command that only needs to know where the state is; one thread is enough for it.
fn at_state_dir(location: &Location, run: impl AsyncFnOnce(&Path) -> Exit) -> Exit {
    let state_dir = match config::load_state_dir(Inputs::from_process(location.0.clone())) {
        Ok(state_dir) => state_dir,
        Err(problems) => {
            complain(problems);
            return Exit::Usage;
        }
    };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(&state_dir)),
        Err(error) => {
            complain(format_args!("cannot start: {error}"));
            Exit::Failed
        }
    }
}
