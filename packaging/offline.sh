#!/bin/sh
# One file for a cellar without a network: packaging/offline.sh [DEB] [OUTDIR]
#
# Makes OUTDIR/gardien-offline_VERSION_ARCH.sh with the package and all that a Debian 13 of this
# machine's architecture may lack, and its sha256 beside it. There: sudo sh gardien-offline_….sh
# Run it on a Debian 13 with fresh lists (apt-get update). Needs: dpkg-dev.
set -eu
umask 022
export LC_ALL=C.UTF-8
PATH=/usr/sbin:/usr/bin:/sbin:/bin

top=$(cd "$(dirname "$0")/.." && pwd)
deb=${1:-}
out=${2:-$top/dist}
[ -n "$deb" ] || deb=$("$top/packaging/build-deb.sh" "$out")
version=$(dpkg-deb -f "$deb" Version)
arch=$(dpkg --print-architecture)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
mkdir -p "$work/debs/partial" "$work/pool" "$out"

# as if nothing were installed, so that nothing this machine happens to have is left out; what every
# Debian has (priority required) is left out again
: >"$work/status"
apt-get -qq -y --no-install-recommends --download-only \
    -o Dir::State::Status="$work/status" -o Dir::Cache::Archives="$work/debs" \
    -o APT::Sandbox::User=root -o Debug::NoLocking=1 -o APT::Keep-Downloaded-Packages=true \
    install "$(readlink -f "$deb")" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }

cp "$deb" "$work/pool/"
for one in "$work/debs"/*.deb; do
    [ "$(dpkg-deb -f "$one" Priority)" = required ] || cp "$one" "$work/pool/"
done
(cd "$work/pool" && dpkg-scanpackages --multiversion . >Packages 2>/dev/null &&
    sha256sum -- *.deb >SHA256SUMS)

made=$out/gardien-offline_${version}_$arch.sh
cat >"$work/head" <<'HEAD'
#!/bin/sh
# Installs gardien without a network: sudo sh THIS-FILE
set -eu
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
PATH=/usr/sbin:/usr/bin:/sbin:/bin
[ "$(id -u)" = 0 ] || { echo "as root: sudo sh $0" >&2; exit 2; }
. /etc/os-release
[ "${VERSION_CODENAME:-}" = trixie ] || { echo "this is for Debian 13 (trixie), not for ${PRETTY_NAME:-this}" >&2; exit 1; }
[ "$(dpkg --print-architecture)" = ARCH ] || { echo "this is for ARCH; this machine is $(dpkg --print-architecture)" >&2; exit 1; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir"
mkdir -p "$dir/lists/partial" "$dir/archives/partial"
tail -n +LINES "$0" | tar -x -C "$dir"
(cd "$dir" && sha256sum --quiet --strict -c SHA256SUMS) || { echo "this file is damaged: copy it again" >&2; exit 1; }
echo "deb [trusted=yes] file:$dir ./" >"$dir/here.list"
apt() {
    apt-get -qq -o Dir::Etc::SourceList="$dir/here.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$dir/lists" -o Dir::Cache::Archives="$dir/archives" \
        -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root \
        -o Dpkg::Use-Pty=0 "$@"
}
apt update
apt install -y --no-install-recommends gardien=VERSION </dev/null
exit 0
HEAD
lines=$(($(wc -l <"$work/head") + 1))
sed -i "s/ARCH/$arch/g; s/VERSION }/&/; s/=VERSION/=$version/; s/+LINES/+$lines/" "$work/head"
tar -c -C "$work/pool" . | cat "$work/head" - >"$made"
(cd "$out" && sha256sum -- "$(basename "$made")" >"$(basename "$made").sha256")
echo "$made"
