#!/usr/bin/env bash
# vtr in containers, one command for the whole way. See usage() below, and docs/docker.md.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
way=(prepare extract train embed index evaluate)

usage() {
  cat <<'TEXT'
Usage: docker/run.sh [OPTIONS] COMMAND

Commands:
  demo                       render a small world of clips and take it through every stage
  all VIDEOS [CAPTIONS]      prepare, extract, train, embed, index and evaluate a folder of videos; CAPTIONS is a CSV
                             with the columns video and caption, needed unless the videos are tar files with captions
  prepare VIDEOS [OPTION...] one stage; what follows goes to it: docker/run.sh extract --workers 2
  extract|train|embed|index|evaluate [OPTION...]
  serve                      answer searches at http://127.0.0.1:8000, in the background; `stop` ends it
  stop                       end what `serve` started
  vtr [ARGUMENT...]          any command: docker/run.sh vtr search /workspaces/mine/run "a red fish"
  weights MODEL...           fetch models of the Hugging Face hub; the only command that uses the network
  build                      build the image anew; else it is built when it is not there

Options:
  --gpu         the GPU image and the GPUs
  --name NAME   the collection, a folder of the workspaces; by default mine, for demo: demo
  --from STAGE  with all: begin at this stage
  --help        this text

Output goes to the folder workspaces here, or to VTR_WORKSPACES; it belongs to whoever runs this. What is done stays:
run the same command again after a failure. Exit codes: the failed stage's, 2 for a wrong command, 127 without Docker.
TEXT
}

wrong() {
  printf 'docker/run.sh: %s\n' "$*" >&2
  exit 2
}

# The absolute path of a file or folder, as Docker takes no other.
existing() { # COMMAND TEST PATH KIND
  test "$2" "$3" || wrong "$1: no such $4: $3"
  realpath -- "$3"
}

compose() {
  docker compose "${files[@]}" "$@"
}

# Run a stage; where it fails, say so and end with its exit code.
stage() { # SERVICE [ARGUMENT...]
  local code=0
  printf '== %s\n' "$1" >&2
  compose run --rm "${mounts[@]}" "$@" || code=$?
  if [ "$code" -ne 0 ]; then
    printf 'docker/run.sh: %s ended with exit code %s. What is done stays: run the same command again.\n' \
      "$1" "$code" >&2
    exit "$code"
  fi
}

all() { # VIDEOS [CAPTIONS]
  [ $# -ge 1 ] && [ $# -le 2 ] || wrong "all takes a folder of videos and, if they have any, a CSV of captions"
  local options=() began=0 name captions
  VTR_VIDEOS=$(existing all -d "$1" folder)
  export VTR_VIDEOS
  if [ $# -eq 2 ]; then
    captions=$(existing all -f "$2" file)
    mounts=(--volume "$captions:/captions.csv:ro")
    options=(--captions /captions.csv)
  fi
  for name in "${way[@]}"; do
    [ "$name" = "$from" ] && began=1
    [ "$began" = 1 ] || continue
    if [ "$name" = prepare ]; then stage prepare "${options[@]}"; else stage "$name"; fi
  done
}

# Containers run as whoever calls, so that the output is theirs; for root as the image's own user.
as_caller() {
  local uid gid
  uid=$(id -u) gid=$(id -g)
  if [ "$uid" = 0 ]; then uid=10001 gid=10001; fi
  export VTR_UID=${VTR_UID:-$uid} VTR_GID=${VTR_GID:-$gid}
  export VTR_WORKSPACES=${VTR_WORKSPACES:-$PWD/workspaces}
  if [ ! -d "$VTR_WORKSPACES" ]; then
    mkdir -p -- "$VTR_WORKSPACES"
    if [ "$(id -u)" = 0 ]; then chown "$VTR_UID:$VTR_GID" -- "$VTR_WORKSPACES"; fi
  fi
}

files=(-f "$here/compose.yaml")
mounts=()
name='' from=prepare
while [ $# -gt 0 ]; do
  case $1 in
    --gpu) files+=(-f "$here/compose.gpu.yaml") ;;
    --name | --from)
      [ $# -ge 2 ] || wrong "$1 needs a value"
      if [ "$1" = --name ]; then name=$2; else from=$2; fi
      shift
      ;;
    --help | -h) usage && exit 0 ;;
    -*) wrong "no such option: $1; --help lists them" ;;
    *) break ;;
  esac
  shift
done
[ $# -ge 1 ] || { usage >&2 && exit 2; }
command=$1
shift
[[ " ${way[*]} " == *" $from "* ]] || wrong "--from: no such stage: $from; there are ${way[*]}"
[ "$command" = demo ] && [ -z "$name" ] && name=demo
export VTR_NAME=${name:-${VTR_NAME:-mine}}

case $command in
  demo | all | prepare | extract | train | embed | index | evaluate | serve | stop | vtr | weights | build) ;;
  *) wrong "no such command: $command; --help lists them" ;;
esac
if ! docker compose version >/dev/null 2>&1; then
  echo "docker/run.sh: needs Docker with its compose plugin: https://docs.docker.com/engine/install/" >&2
  exit 127
fi
as_caller

case $command in
  demo) stage vtr demo --out "/workspaces/$VTR_NAME" "$@" ;;
  all) all "$@" ;;
  prepare)
    [ $# -ge 1 ] || wrong "prepare needs a folder of videos"
    VTR_VIDEOS=$(existing prepare -d "$1" folder)
    export VTR_VIDEOS
    shift
    stage prepare "$@"
    ;;
  serve) compose up --detach --wait serve && compose port serve 8000 ;;
  stop) compose down ;;
  build) compose build vtr ;;
  weights)
    [ $# -ge 1 ] || wrong "weights needs a model of the Hugging Face hub, such as openai/clip-vit-base-patch32"
    for model in "$@"; do stage weights "$model"; done
    ;;
  *) stage "$command" "$@" ;;
esac
