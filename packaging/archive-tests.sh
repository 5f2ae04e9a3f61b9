#!/bin/sh
# What Debian's own testers say of the packages: packaging/archive-tests.sh (as root)
#
# piuparts installs, removes and purges it in a root of its own; autopkgtest runs
# packaging/debian/tests in another. Needs a network and:
#   apt-get install --no-install-recommends piuparts autopkgtest mmdebstrap debootstrap
set -eu
export LC_ALL=C.UTF-8
PATH=/usr/sbin:/usr/bin:/sbin:/bin
MIRROR=${MIRROR:-http://deb.debian.org/debian}

top=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
work=$(mktemp -d /var/tmp/gardien-archive-tests.XXXXXX)
trap 'rm -rf --one-file-system "$work"' EXIT
deb=$("$top/packaging/build-deb.sh" "$work/dist")

receiver=$(echo "$work"/dist/gardien-receiver_*.deb)
web=$(echo "$work"/dist/gardien-web_*.deb)

for one in "$deb" "$receiver" "$deb $web"; do
    # shellcheck disable=SC2086 -- two packages
    piuparts -d trixie -m "$MIRROR" --no-eatmydata $one >"$work/piuparts.log" 2>&1 ||
        { tail -n 40 "$work/piuparts.log" >&2; exit 1; }
    grep -E 'PASS|FAIL' "$work/piuparts.log"
done

mmdebstrap --quiet --variant=minbase trixie "$work/root" "$MIRROR"
cp /etc/resolv.conf "$work/root/etc/"
mkdir "$work/src"
git -C "$top" archive HEAD | tar -x -C "$work/src"
cp -r "$work/src/packaging/debian" "$work/src/debian"
autopkgtest --quiet --apt-upgrade -B "$deb" "$web" "$receiver" "$work/src/" -- chroot "$work/root" >"$work/autopkgtest.log" 2>&1 ||
    { tail -n 40 "$work/autopkgtest.log" >&2; exit 1; }
grep -E '(PASS|FAIL)$' "$work/autopkgtest.log" | sort -u
