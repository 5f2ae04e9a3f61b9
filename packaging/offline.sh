#!/bin/sh
# One file for a cellar without a network: packaging/offline.sh [DEB] [OUTDIR] [ARCHITECTURE…]
#
# Makes OUTDIR/gardien-offline_VERSION_ARCHITECTURE.sh with gardien, gardien-web and all that a Debian 13
# may lack, and its sha256 beside it: for amd64 and arm64, or for those named. apt fetches the packages of
# each architecture into folders of its own: nothing is installed here, nothing of another machine is
# run, and root is not needed. There: sudo sh gardien-offline_….sh
# Needs: apt and dpkg-dev of a Debian 13 of any architecture. MIRROR and SECURITY name other archives.
set -eu
umask 022
export LC_ALL=C.UTF-8
PATH=/usr/sbin:/usr/bin:/sbin:/bin
MIRROR=${MIRROR:-http://deb.debian.org/debian}
SECURITY=${SECURITY:-http://deb.debian.org/debian-security}
KEYS=/usr/share/keyrings/debian-archive-keyring.gpg

top=$(cd "$(dirname "$0")/.." && pwd)
deb=${1:-}
out=${2:-$top/dist}
[ $# -le 2 ] && set -- amd64 arm64 || shift 2
[ -n "$deb" ] || deb=$("$top/packaging/build-deb.sh" "$out")
deb=$(readlink -f "$deb")
version=$(dpkg-deb -f "$deb" Version)
# build-deb.sh makes it beside
web=$(dirname "$deb")/gardien-web_${version}_all.deb
[ -e "$web" ] || { echo "missing: $web" >&2; exit 1; }
# with these the commands of `gardien check` for what is only suggested work there, too. Not weasyprint: it
# would make the file three times as large, and an office computer makes the PDF as well
suggested=$(dpkg-deb -f "$deb" Suggests | sed 's/([^)]*)//g; s/,/ /g; s/\bweasyprint\b//; s/\bgardien-web\b//')

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
mkdir -p "$out"

fetch() { # ARCHITECTURE: all packages to $work/ARCHITECTURE/debs, as if nothing were installed here
    there=$work/$1
    mkdir -p "$there/state/lists/partial" "$there/cache" "$there/debs/partial" "$there/etc"
    : >"$there/status"
    for suite in "$MIRROR trixie" "$MIRROR trixie-updates" "$SECURITY trixie-security"; do
        echo "deb [signed-by=$KEYS] $suite main"
    done >"$there/etc/sources.list"
    cat >"$there/apt.conf" <<CONF
#clear APT::Architectures;
APT::Architecture "$1";
APT::Architectures { "$1"; };
APT::Sandbox::User "";
APT::Keep-Downloaded-Packages "true";
APT::Install-Recommends "false";
Acquire::Retries "3";
Acquire::Languages "none";
Debug::NoLocking "true";
Dir::State "$there/state";
Dir::State::Status "$there/status";
Dir::Cache "$there/cache";
Dir::Cache::Archives "$there/debs";
Dir::Etc "$there/etc";
Dir::Etc::SourceList "$there/etc/sources.list";
Dir::Etc::SourceParts "/dev/null";
CONF
    for words in update "-y --download-only install $deb $web $suggested"; do
        # shellcheck disable=SC2086 -- several words
        APT_CONFIG=$there/apt.conf apt-get -qq $words >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
    done
}

image() { # ARCHITECTURE: one file of what was fetched
arch=$1
fetch "$arch"
rm -rf "$work/pool"
mkdir "$work/pool"
cp "$deb" "$web" "$work/pool/"
# what every Debian has is left out again
for one in "$work/$arch/debs"/*.deb; do
    [ "$(dpkg-deb -f "$one" Priority)" = required ] || cp "$one" "$work/pool/"
done
(cd "$work/pool" && dpkg-scanpackages --multiversion . >Packages 2>/dev/null &&
    sha256sum -- *.deb >SHA256SUMS)

made=$out/gardien-offline_${version}_$arch.sh
cat >"$work/head" <<'HEAD'
#!/bin/sh
# Installs gardien without a network: sudo sh THIS-FILE [PACKAGE…]
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
apt install -y --no-install-recommends gardien=VERSION "$@" </dev/null
exit 0
HEAD
lines=$(($(wc -l <"$work/head") + 1))
sed -i "s/ARCH/$arch/g; s/VERSION }/&/; s/=VERSION/=$version/; s/+LINES/+$lines/" "$work/head"
tar -c -C "$work/pool" . | cat "$work/head" - >"$made"
(cd "$out" && sha256sum -- "$(basename "$made")" >"$(basename "$made").sha256")
echo "$made"
}

for each in "$@"; do image "$each"; done
