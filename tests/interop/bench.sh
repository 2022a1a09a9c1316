#!/usr/bin/env bash
# `just bench [SECTION...]`: builds the release binaries and the real peers, measures ours against tsnet, and leaves the
# tables in target/bench/report.md. Sections: bulk relay small fresh restart register. Needs root.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-$PWD/target}
bash tests/interop/peers.sh
command -v wrk >/dev/null || { apt-get update && apt-get install -y --no-install-recommends wrk; } >/dev/null
cargo build --release -p countersign -p countersign-example-stream -p countersign-interop-tests --bins
mkdir -p "$target/bench"
{
    echo "Measured $(date -u +%F) on $(nproc) cores ($(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)), Linux $(uname -r)," \
        "commit $(git rev-parse --short HEAD), by \`just bench${*:+ $*}\`."
    "$target/release/bench" "$@"
} | tee "$target/bench/report.md"
