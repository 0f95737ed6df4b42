#!/usr/bin/env bash
# make demo: names what the machine lacks, builds the daemon and the demo with the flags of
# make build while the servers' programs are downloaded, and runs the demo. It says what
# happens every few seconds. Ctrl-C ends it with exit code 0 at any time.
#
#   demo.sh CGO_ENABLED=0 go build FLAG...    the command of make build
source "$(dirname "${BASH_SOURCE[0]}")/../setup/setup.sh"
set +e # a failure is looked at where it can happen
cd "$root" || exit
build=(env "$@")
# now are the seconds of the Unix clock, with a point in every language, and whole ones
# where bash is older than 5.
now() {
  local seconds=${EPOCHREALTIME:-$(date +%s).000000}
  echo "${seconds/,/.}"
}
DEMO_BEGAN=$(now)
export DEMO_BEGAN

# note prints what happens, as the demo does, after the seconds since the beginning.
note() {
  local time ms
  time=$(now)
  ms=$(((${time/./} - ${DEMO_BEGAN/./}) / 1000))
  printf '%4d.%d s  %s\n' $((ms / 1000)) $((ms % 1000 / 100)) "$*"
}

# What runs meanwhile are jobs of their own, told to end with all that they have started.
set -m
running=()
end() {
  trap '' INT TERM HUP
  for pid in "${running[@]}"; do kill -INT -- "-$pid"; done 2>/dev/null
  wait "${running[@]}" 2>/dev/null
  rm -rf "$work"
}
interrupted() {
  end
  note "ended: nothing was started; what is downloaded and compiled is kept"
  exit 0
}
fail() {
  end
  note "$1" >&2
  exit 1
}
work=$(mktemp -d) || exit
export GOTMPDIR=$work # go leaves there what it has half built
trap interrupted INT TERM HUP

# during WHAT PID: waits for the process, with a line every few seconds; what says how far
# it is. A download that failed ends the wait.
during() {
  local what=$1 pid=$2 waited=0
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.2 &
    wait $!
    waited=$((waited + 1))
    [ $((waited % 20)) -ne 0 ] || note "$($what)"
    [ ! -s "$work/downloads" ] || fail "$(cat "$work/downloads")"
  done
  wait "$pid"
}

# lines counts those of a file that need not be there yet; faults are what go build says
# beside the packages that it compiles.
lines() { cat "$1" 2>/dev/null | wc -l; }
faults() { grep -E '^#|^go: |:[0-9]+:' "$1" | tail -n 5; }

check demo || { rm -rf "$work"; exit 1; }

# The client of a Docker engine is a fifth of the work: only where one answers.
tags=grpcnotrace,nethttpomithttp2
docker_answers || tags=$tags,nodocker

wanted=()
for server in mongodb kafka; do
  if from_packages $server && ! downloaded $server; then wanted+=("$server"); fi
done

# The modules come while the first packages are compiled: those of the program that
# downloads, which are the standard library's.
go list -tags $tags -deps ./cmd/fhir-cdc ./test/demo >"$work/packages" 2>"$work/modules" &
listing=$!
running=($listing)
compiling() {
  echo "compiling: $(lines "$work/build") of at most 600 packages (the first time usually a minute)"
}
downloads=
if [ ${#wanted[@]} -gt 0 ]; then
  "${build[@]}" -v -o "$work/download" ./test/services/cmd/download 2>"$work/build" &
  running+=($!)
  during compiling $! || fail "could not compile: $(faults "$work/build")"
  "$work/download" "${wanted[@]}" > >(while read -r line; do note "$line"; done) 2>"$work/downloads" &
  downloads=$!
  running+=($downloads)
fi

modules() { echo "getting Go modules: $(lines "$work/modules") so far (usually 10 s)"; }
during modules $listing || fail "could not get the Go modules: $(tail -n 3 "$work/modules")"

note "building fhir-cdc and the demo from the sources"
"${build[@]}" -v -tags $tags -o bin/ ./cmd/fhir-cdc ./test/demo 2>>"$work/build" &
running+=($!)
compiling() {
  echo "compiling: $(lines "$work/build") of at most $(lines "$work/packages") packages (the first time usually a minute)"
}
during compiling $! || fail "could not compile: $(faults "$work/build")"

if [ -n "$downloads" ]; then
  downloading() { echo "downloading (usually half a minute)"; }
  during downloading $downloads || fail "$(cat "$work/downloads")"
fi
rm -rf "$work"
set +m
unset GOTMPDIR
FHIR_CDC_TEST_BINARY=$PWD/bin/fhir-cdc exec bin/demo
