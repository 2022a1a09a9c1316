//! Ends every child of the lab when the test process ends, however it ends.
//!
//! Test harnesses leave statics undropped and may be killed; the reaper is a shell that holds the other end of a pipe and,
//! at its end of file, kills the processes that registered. Their namespaces, mounts and devices go with them.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use crate::{Error, Result};

/// Lines `+PID` and `-PID` come in; at end of file what is left is killed.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
pids=' '
while read -r line; do
    pid=${line#?}
    case $line in
        +*) pids="$pids$pid " ;;
        -*) case $pids in *" $pid "*) pids="${pids%% "$pid" *} ${pids#* "$pid" }" ;; esac ;;
    esac
done
[ -z "${pids# }" ] || kill -9 $pids 2>/dev/null
"#;

static REAPER: OnceLock<Mutex<Option<Child>>> = OnceLock::new();

/// Has `pid` killed when this process ends.
pub(crate) fn register(pid: u32) -> Result {
    tell(&format!("+{pid}\n"))
}

/// Takes `pid`, which has ended, off the list again.
pub(crate) fn forget(pid: u32) -> Result {
    tell(&format!("-{pid}\n"))
}

fn tell(line: &str) -> Result {
    let cell = REAPER.get_or_init(|| Mutex::new(None));
    let mut slot = cell.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let reaper = match slot.as_mut() {
        Some(reaper) => reaper,
        None => slot.insert(
            Command::new("setsid")
                .args(["sh", "-c", SCRIPT])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .map_err(Error::io("starting the reaper"))?,
        ),
    };
    match reaper.stdin.as_mut() {
        Some(pipe) => pipe.write_all(line.as_bytes()).map_err(Error::io("telling the reaper")),
        None => Err(Error::unexpected("the reaper", "has no pipe")),
    }
}
