#!/usr/bin/env bash
# `just bench [SECTION...]`: builds the binaries as they are shipped (profile `dist`) and the real peers, measures ours against tsnet and tsidp, and leaves
# the tables in target/bench/report.md. Sections: bulk relay small fresh restart register netmap oauth. All but oauth need root.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-$PWD/target}
bash tests/interop/peers.sh tsidp
command -v wrk >/dev/null || { apt-get update && apt-get install -y --no-install-recommends wrk; } >/dev/null
cargo build --profile dist -p countersign -p countersign-example-stream -p countersign-interop-tests -p countersign-load-tests --bins
# oauth has a program of its own, on the in-process tailnet: tsidp does not start on Headscale.
oauth=false lab=()
for section in "$@"; do if [ "$section" = oauth ]; then oauth=true; else lab+=("$section"); fi; done
[ $# -gt 0 ] || oauth=true
mkdir -p "$target/bench"
{
    echo "Measured $(date -u +%F) on $(nproc) cores ($(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)), Linux $(uname -r)," \
        "commit $(git rev-parse --short HEAD), by \`just bench${*:+ $*}\`."
    if [ $# -eq 0 ] || [ ${#lab[@]} -gt 0 ]; then "$target/dist/bench" "${lab[@]}"; fi
    if $oauth; then "$target/dist/oauth-bench"; fi
} | tee "$target/bench/report.md"
