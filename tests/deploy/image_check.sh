#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the image, and runs it as its containers run, where no Docker engine is: `make image-check`, as root. Podman does
# it with runc, on the machine's own network; the base is Debian's, made by debootstrap, with the certificates that this
# machine adds for ca-certificates to take up. Takes 20 GB of disk and minutes; keeps the images stridecast-debian and stridecast:check.
# What can't be checked here is passed over; with REQUIRE_IMAGE=1 that is a failure.
set -euo pipefail
cd "$(dirname "$0")/../.."

skip() {
    printf '\nSKIPPED, NOTHING WAS CHECKED: %s\n\n' "$1"
    [ "${REQUIRE_IMAGE:-0}" = 1 ] && exit 1
    exit 0
}
fail() { printf '\nFAILED: %s\n' "$1"; exit 1; }
passed() { printf 'passed: %s\n' "$1"; }

for program in podman runc debootstrap; do
    command -v "$program" >/dev/null || skip "no $program here (Debian: apt install podman runc debootstrap)"
done
[ "$(id -u)" = 0 ] || skip "debootstrap and runc need root here"

work=$(mktemp -d)
broker=
finish() {
    podman rm --force --ignore stridecast-check >/dev/null 2>&1 || true
    [ -z "$broker" ] || kill "$broker" 2>/dev/null || true
    wait
    rm -rf "$work"
}
trap finish EXIT

# Where cgroups are an older system's, or limits can't be raised, podman's defaults don't work.
cat >"$work/containers.conf" <<'CONF'
[containers]
default_ulimits = []
netns = "host"
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
CONF
export CONTAINERS_CONF=$work/containers.conf
podman info >/dev/null 2>&1 || skip "podman doesn't work here: $(podman info 2>&1 | tail -1)"

base=localhost/stridecast-debian
if ! podman image exists "$base"; then
    release=$(sed -n 's/^ARG BASE=debian:\([0-9]*\).*/\1/p' deploy/Dockerfile)
    names=([12]=bookworm [13]=trixie [14]=forky)
    debootstrap --variant=minbase "${names[$release]}" "$work/base" >"$work/debootstrap.log" 2>&1 ||
        fail "debootstrap: $(tail -3 "$work/debootstrap.log")"
    mkdir -p "$work/base/usr/local/share/ca-certificates"
    cp /usr/local/share/ca-certificates/*.crt "$work/base/usr/local/share/ca-certificates/" 2>/dev/null || true
    tar -C "$work/base" --exclude='./proc/*' --exclude='./sys/*' -c . | podman import - "$base" >/dev/null
fi

cache=${UV_CACHE_DIR:-$HOME/.cache/uv}
mkdir -p "$cache"
image=localhost/stridecast:check
podman build --format docker --layers=false --network host --volume "$cache:/root/.cache/uv" \
    --build-arg BASE="$base" --build-arg TORCH_INDEX="${TORCH_INDEX:-}" -f deploy/Dockerfile -t "$image" .
printf '\nthe image has %s\n' "$(podman images --format '{{.Size}}' "$image")"

# As compose.yaml runs it, and on loopback, for the network is this machine's.
hardened=(--read-only --read-only-tmpfs=false --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --env STRIDECAST_HTTP__HOST=127.0.0.1)
within() { podman run --rm "${hardened[@]}" --entrypoint sh "$image" -c "$1"; }

[ "$(within 'id -u')" = 10001 ] || fail "it runs as $(within 'id -u')"
passed "it runs as a user without rights"
found=$(within 'for each in cc gcc make pip pip3 uv git; do command -v $each; done; true')
[ -z "$found" ] || fail "it holds build tools: $found"
passed "it holds no build tools"
within 'python3 -c "import os, ssl; assert os.listdir(ssl.get_default_verify_paths().capath)"' || fail "it knows no authorities"
passed "it knows the authorities that certificates come from"
within 'touch /opt/stridecast/x' 2>/dev/null && fail "its root can be written to"
podman run --rm "${hardened[@]}" "$image" --version | grep -q '^stridecast ' || fail "it doesn't tell its version"
passed "it runs on a root that can't be written to"

ended() { podman inspect --format '{{.State.ExitCode}}' stridecast-check; }
start() { podman run --detach --name stridecast-check "${hardened[@]}" "$@" >/dev/null; }

start "$image" worker activity
sleep 0.5  # it imports
before=$SECONDS
podman stop --time 60 stridecast-check >/dev/null
[ $((SECONDS - before)) -lt 55 ] || fail "it didn't hear SIGTERM while it imported"
passed "SIGTERM ends it while it imports, with status $(ended)"
podman rm stridecast-check >/dev/null

.venv/bin/stridecast broker --port 0 --data-dir "$work/kafka" >"$work/address" 2>"$work/broker.log" &
broker=$!
for _ in $(seq 600); do [ -s "$work/address" ] && break; sleep 0.2; done
kafka=(--env "STRIDECAST_KAFKA__BOOTSTRAP_SERVERS=$(cat "$work/address")")
podman run --rm "${hardened[@]}" "${kafka[@]}" "$image" topics
start "${kafka[@]}" --env NUMBA_DEBUG_CACHE=1 --env STRIDECAST_DELIVERY=exactly_once "$image" worker activity
for _ in $(seq 600); do podman healthcheck run stridecast-check >/dev/null 2>&1 && break; sleep 0.5; done
podman healthcheck run stridecast-check || fail "it isn't healthy: $(podman logs --tail 5 stridecast-check 2>&1)"
passed "its health check says when it is ready"
podman logs stridecast-check >"$work/log" 2>&1
loaded=$(grep -c 'data loaded from' "$work/log") || true
saved=$(grep -c 'data saved to' "$work/log") || true
[ "$loaded" -gt 0 ] && [ "$saved" = 0 ] || fail "it compiled $saved functions, and loaded $loaded"
passed "it loads $loaded compiled functions, and compiles none"

podman run --rm "${hardened[@]}" "${kafka[@]}" "$image" replay --devices 20 --seconds 20 >"$work/replay.log" 2>&1
labels() { python3 -c "
import re, urllib.request
page = urllib.request.urlopen('http://127.0.0.1:9464/metrics', timeout=5).read().decode()
print(int(sum(float(n) for n in re.findall(r'^stridecast_predictions_total\{.*\} (\S+)', page, re.M))))"; }
for _ in $(seq 60); do [ "$(labels)" -gt 0 ] && break; sleep 1; done
[ "$(labels)" -gt 0 ] || fail "no labels: $(podman logs --tail 5 stridecast-check 2>&1)"
passed "it has published $(labels) labels"
podman stop --time 60 stridecast-check >/dev/null
[ "$(ended)" = 0 ] || fail "it ended with $(ended)"
passed "SIGTERM ends it with status 0"
