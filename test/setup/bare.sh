#!/usr/bin/env bash
# Proves the first minute where nothing is: a bare Debian with git and make only, made for it,
# in which `make setup` and `make demo` run as they are typed. Its caches are empty too.
#
#   bare.sh      exit 0: proven; 77: it may not run here, with the reason
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

skip() { echo "the bare Debian is left out: $1"; exit 77; }
[ "$(uname -sm)" = 'Linux x86_64' ] || skip "it is for Linux on x86-64"
[ "$(id -u)" -eq 0 ] || skip "it needs root"
command -v debootstrap >/dev/null || apt-get install -y -qq --no-install-recommends debootstrap >/dev/null 2>&1 ||
  skip "debootstrap cannot be installed"
release=bookworm
mirror=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $release" 'Created-By: Packages' 2>/dev/null | head -n 1) || mirror=
[ -n "$mirror" ] || skip "this machine's apt has no mirror of Debian $release"

# In a mount namespace of its own: whatever happens, no mount stays.
if [ "${1:-}" != inside ]; then
  unshare --mount true 2>/dev/null || skip "it may not make a mount namespace"
  debian=$(mktemp -d)
  trap 'rm -rf "$debian" "$debian.log"' EXIT
  unshare --mount "$0" inside "$debian"
  exit
fi

debian=$2
echo "making a bare Debian $release"
debootstrap --variant=minbase --include=git,make "$release" "$debian" "$mirror" >"$debian.log" 2>&1 || { tail "$debian.log"; skip "debootstrap cannot make it"; }
{ mount -t proc proc "$debian/proc" && mount --rbind /dev "$debian/dev"; } || skip "it may not mount"
# How this machine reaches the registries is no part of the proof.
cp /etc/resolv.conf /etc/hosts "$debian/etc/"
cp -r /etc/apt/apt.conf.d "$debian/etc/apt/"
mkdir -p "$debian/usr/local/share/ca-certificates"
cp /usr/local/share/ca-certificates/*.crt "$debian/usr/local/share/ca-certificates/" 2>/dev/null || true
git clone -q . "$debian/fhir-cdc"
began=$SECONDS
in_debian() {
  env -u TMPDIR -u FHIR_CDC_CACHE -u XDG_CACHE_HOME -u GOCACHE -u GOMODCACHE -u GOFLAGS -u GOROOT -u GOPATH HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    chroot "$debian" /bin/bash -c "cd /fhir-cdc && $1"
}
in_debian 'make demo' && { echo "make demo ran with nothing there"; exit 1; }
in_debian 'make setup'
echo "make setup took $((SECONDS - began)) s"
in_debian 'DEMO_EXIT=1 make demo'
echo "both took $((SECONDS - began)) s, this machine's load is $(cut -d' ' -f1 /proc/loadavg)"
