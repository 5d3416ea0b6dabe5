#!/usr/bin/env bash
# Builds both images without a Docker engine and takes clips through every stage in them, without a network.
# See usage() below, and docs/docker.md for what this shows and what it cannot.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
state=${VTR_VERIFY:-/var/tmp/vtr-verify}
work=$state/work
network=vtr-verify

usage() {
  cat <<'TEXT'
Usage: docker/verify.sh [--clean | cpu | gpu] [-- BUILD OPTION...]

Builds docker/Dockerfile.cpu and docker/Dockerfile with buildah, in a chroot, on a Debian root of debootstrap that
stands in for both base images, and runs `vtr doctor` and a small pipeline inside: by default with both, else with the
one named. Needs root on Debian or Ubuntu, `apt-get install buildah debootstrap iproute2`, and a network to build (not
to run). Root, layers and logs stay in /var/tmp/vtr-verify, or VTR_VERIFY, for the next time; --clean removes them.

What follows -- goes to `buildah build`, for example where packages come from elsewhere:
  docker/verify.sh -- --build-arg TORCH_INDEX_URL=https://pypi.example/simple --volume /etc/pip.conf:/etc/pip.conf:ro

Both images get the CPU build of torch, as CUDA cannot be used here. Ends with 0 when everything went well, else with
the code of the step that it names.
TEXT
}

step='the start'
begin() {
  step=$1
  printf '\n== %s\n' "$step"
}

builder() { # buildah with a store of its own
  buildah --root "$state/store" --runroot "$state/run" "$@"
}

tidy() {
  ip netns delete "$network" 2>/dev/null || true
  if [ -n "$container" ]; then builder rm "$container" >/dev/null || true; fi
  container=''
}

# What is still mounted below goes first, so that nothing of the host's is removed through it.
clean() {
  tidy
  awk -v below="$state/" 'index($2, below) == 1 { print $2 }' /proc/mounts | sort -r | xargs -r umount
  rm -rf --one-file-system "$state"
}

ended() {
  local code=$?
  tidy
  if [ "$code" -ne 0 ]; then printf '\nFAILED: %s (exit code %s)\n' "$step" "$code" >&2; fi
  exit "$code"
}

base() { # IMAGE: tag the Debian root with the name of a base image
  if ! builder inspect --type image vtr-base >/dev/null 2>&1; then
    begin "debootstrap: the stand-in for the base images"
    rm -rf "$state/root"
    debootstrap --variant=minbase bookworm "$state/root" >"$state/debootstrap.log"
    rm -rf "$state/root/var/cache/apt/archives" "$state/root/var/lib/apt/lists"
    local container
    container=$(builder from scratch)
    builder add --quiet "$container" "$state/root" / >/dev/null
    builder commit --quiet --rm "$container" vtr-base >/dev/null
    rm -rf "$state/root"
  fi
  builder tag vtr-base "$1"
}

build() { # DOCKERFILE TAG
  begin "build $1"
  base "$(sed -n 's/^FROM \(\S*\) AS builder$/\1/p' "$repository/$1")"
  begin "build $1"
  builder build --isolation chroot --pull-never --format docker --layers \
    --build-arg TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu \
    --file "$repository/$1" --tag "$2" "${options[@]}" "$repository" >"$state/build-$2.log" 2>&1 ||
    { tail -n 25 "$state/build-$2.log" >&2 && false; }
  builder images --format '{{.Name}}: {{.Size}}' "$2"
}

# Run a command in the container as its user, with the volumes and no network but itself. buildah copies itself into
# memory to begin with, and where the machine is busy that fails at times, before anything has run: so try again.
inside() { # COMMAND...
  local code errors
  errors=$(mktemp -p "$state")
  for _ in 1 2 3 4 5; do
    code=0
    ip netns exec "$network" buildah --root "$state/store" --runroot "$state/run" run --isolation chroot "${as[@]}" \
      --env TINI_SUBREAPER=1 --volume "$work/videos:/videos:ro" --volume "$work/workspaces:/workspaces" \
      --volume "$work/weights:/weights" --volume "$repository/docker:/docker:ro" "$container" "$@" 2>"$errors" || code=$?
    grep -q 'sealing memfd copy' "$errors" || break
  done
  cat "$errors" >&2
  rm "$errors"
  return "$code"
}

# Prints what compose.yaml has every service run where nothing is set: a line a service, its name first.
reader=$(
  cat <<'PYTHON'
import re, yaml
for name, service in yaml.safe_load(open("/docker/compose.yaml"))["services"].items():
    words = service.get("entrypoint", []) + service.get("command", [])
    print(name, *(re.sub(r"\$\{\w+:-(.*?)\}", r"\1", word) for word in words))
PYTHON
)

stage() { # SERVICE [OPTION...]
  begin "$image: $1"
  local line
  read -ra line < <(grep "^$1 " <<<"$services")
  inside "${line[@]:1}" "${@:2}" >"$state/$1.log" 2>&1 || { tail -n 25 "$state/$1.log" >&2 && false; }
  tail -n 3 "$state/$1.log"
}

refused() { # COMMAND...: it must fail
  if "$@" >/dev/null 2>&1; then
    echo "this should have been refused: $*" >&2
    return 1
  fi
}

looks() { # that the container is what its Dockerfile promises
  begin "$image: user, entry point, health check, no network"
  local config
  config=$(builder inspect --type image --format \
    '{{.Docker.Config.User}} {{.Docker.Config.Entrypoint}} {{.Docker.Config.Healthcheck.Test}}' "$image")
  echo "$config"
  [ "$config" = '10001:10001 [/usr/bin/tini -- vtr] [CMD python3 /opt/vtr/healthcheck.py]' ]
  [ "$(inside id -u)" = "${1:-10001}" ]
  inside ffmpeg -version | head -n 1
  refused inside touch /opt/vtr/here
  refused inside touch /videos/here
  refused inside python3 -c 'import socket; socket.create_connection(("deb.debian.org", 80), 5)'
}

# Given as an argument: the painter's processes would look for a file of what comes from standard input.
painter=$(
  cat <<'PYTHON'
import csv
from pathlib import Path
from vtr.demo.render import render_all
from vtr.demo.world import make_scenes, write_captions

scenes = make_scenes(0, {"train": 12, "validation": 3, "test": 3}, speech=True)
render_all(scenes, Path("/workspaces/clips"))
names = {path.stem: path.name for path in Path("/workspaces/clips").iterdir()}
with open("/workspaces/clips/captions.csv", "w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(("video", "caption"))
    rows.writerows((names[scene.id], caption.text) for scene in scenes for caption in write_captions(scene))
PYTHON
)

clips() { # a few clips and their captions, by the demo's own painter
  begin "$image: render clips"
  rm -rf "$work"
  install -d -m 1777 "$work/videos" "$work/workspaces" "$work/weights"
  inside python3 -c "$painter"
  services=$(inside python3 -c "$reader")
  mv "$work"/workspaces/clips/* "$work/videos/"
  rmdir "$work/workspaces/clips"
}

pipeline() {
  stage prepare --captions /videos/captions.csv
  stage extract --experts appearance,audio,motion,ocr,speech --workers 2 # nobody's face is in these clips
  stage train --set epochs=1
  stage embed
  stage index
  stage evaluate
  begin "$image: search"
  inside vtr search /workspaces/mine/run "a red fish" --top 3
}

serves() {
  begin "$image: serve, its health check, and its end by SIGTERM"
  local line code=0 server
  read -ra line < <(grep '^serve ' <<<"$services")
  # The process id is also the host's: a chroot has no process ids of its own.
  # And the exit code is kept where it is sure to be found: buildah may break when its command is sent a signal.
  inside sh -c '"$@" & echo $! >/workspaces/serve.pid; wait $!; echo $? >/workspaces/serve.code' "${line[@]}" \
    >"$state/serve.log" 2>&1 &
  server=$!
  for _ in $(seq 60); do
    code=0
    inside python3 -c 'import urllib.request as u; u.urlopen("http://127.0.0.1:8000/health")' 2>/dev/null || code=$?
    [ "$code" = 0 ] && break
    sleep 2
  done
  inside python3 /opt/vtr/healthcheck.py | tee "$state/health.log"
  grep -q generation "$state/health.log"
  inside python3 -c 'import urllib.request as u; print(u.urlopen("http://127.0.0.1:8000/search?q=fish&k=1").read(99))'
  kill -TERM "$(cat "$work/workspaces/serve.pid")"
  wait "$server" || true
  [ "$(cat "$work/workspaces/serve.code")" = 0 ] || { tail -n 25 "$state/serve.log" >&2 && false; }
}

image=none container='' as=() options=() which='cpu gpu'
case ${1-} in
  --help | -h) usage && exit 0 ;;
  --clean)
    clean
    exit 0
    ;;
  cpu | gpu) which=$1 && shift ;;
esac
if [ $# -gt 0 ]; then
  [ "$1" = -- ] || { usage >&2 && exit 2; }
  options=("${@:2}")
fi
trap ended EXIT
begin "what this needs"
[ "$(id -u)" = 0 ] || { echo "root is needed: sudo docker/verify.sh" >&2 && false; }
for tool in buildah debootstrap ip; do
  command -v "$tool" >/dev/null || { echo "missing: $tool; apt-get install buildah debootstrap iproute2" >&2 && false; }
done
mkdir -p "$state"
tidy
ip netns add "$network"
ip -n "$network" link set lo up

for image in $which; do
  dockerfile=docker/Dockerfile
  [ "$image" = gpu ] || dockerfile=docker/Dockerfile.cpu
  build "$dockerfile" "$image"
  container=$(builder from --pull-never "$image")
  as=()
  clips
  looks
  begin "$image: vtr doctor"
  inside vtr doctor
  pipeline
  serves
  begin "$image: as another user of the host"
  as=(--user 4321:4321)
  looks 4321
  inside vtr search /workspaces/mine/run "a red fish" --top 1
  builder rm "$container" >/dev/null
  container=''
done
begin "done: $which"
