#!/usr/bin/env bash
# Builds the real peers that the interop tests and `just bench` run against, once, into ${COUNTERSIGN_LAB:-~/.cache/countersign-lab}/bin.
# Versions are pinned in go/go.mod (tailscale.com), go/tsidp/go.mod and go/headscale/go.mod; a change of either, or of our own Go files, rebuilds.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=${COUNTERSIGN_LAB:-$HOME/.cache/countersign-lab}/bin
mkdir -p "$bin"
export GOFLAGS=-mod=readonly GOTOOLCHAIN=local

# Built inside another module, Tailscale's own programs cannot find their version; their nodes report it to control.
stamps="-X tailscale.com/version.longStamp=1.98.10 -X tailscale.com/version.shortStamp=1.98.10"

# build NAME MODULE PACKAGE [SOURCE...]: the sources' digest, kept beside the binary, says whether it is current.
build() {
    local name=$1 module=$2 package=$3 digest
    shift 3
    digest=$(cd "$module" && cat go.mod go.sum "$@" | sha256sum | cut -d' ' -f1)
    if [ -x "$bin/$name" ] && [ "$(cat "$bin/.$name.digest" 2>/dev/null)" = "$digest" ]; then return; fi
    echo "building $name (once; cached in $bin)"
    (cd "$module" && go build -ldflags "$stamps" -o "$bin/$name" "$package")
    echo "$digest" >"$bin/.$name.digest"
}

command -v go >/dev/null || { echo "peers.sh: Go is needed to build the real peers (go 1.26 or newer on PATH)" >&2; exit 3; }
build headscale "$here/go/headscale" github.com/juanfont/headscale/cmd/headscale
build tailscaled "$here/go" tailscale.com/cmd/tailscaled
build tailscale "$here/go" tailscale.com/cmd/tailscale
build tsnet-stream "$here/go" ./tsnet-stream tsnet-stream/main.go
# Only `just bench` needs it: peers.sh tsidp.
if [ "${1:-}" = tsidp ]; then build tsidp "$here/go/tsidp" tailscale.com/cmd/tsidp; fi
