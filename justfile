# Everyday commands. `just` alone lists them.

_list:
    @just --list

# Join alice and bob to a tailnet in one process and watch a registration
demo *args:
    cargo run --release -- demo {{args}}

# The one test entry; names of suites or --full as arguments
test *args:
    bash tests/run {{args}}

# What the landing run holds against a change before any test
lint:
    bash tests/run fmt deny lint docs

# Bans, licenses, sources; and advisories where their database can be had
deny:
    bash tests/run deny

# Known vulnerabilities; needs the RustSec database
advisories:
    cargo deny check advisories

# Replay one seed of the simulator
sim seed:
    SIM_SEED={{seed}} SIM_TRACE=1 cargo test -p countersign-sim --test seeds -- --nocapture

# Measure against tsnet through a real tailscaled client; writes target/bench/report.md
bench *args:
    bash tests/interop/bench.sh {{args}}

# Format
fmt:
    cargo fmt --all
