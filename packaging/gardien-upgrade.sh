#!/bin/sh
# Upgrade gardien, and restore the version before if the new one does not come up: gardien-upgrade(8).
set -eu
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
PATH=/usr/sbin:/usr/bin:/sbin:/bin

CONFIG=/etc/gardien/config.yaml
KEPT=/var/cache/gardien/previous    # the version before, to restore it without a network
MARKS=/var/lib/gardien-upgrade      # belongs to root: the daemon's account can write nothing there
MARK=$MARKS/upgrade                 # exists while a new version is on trial
FLOOR=$MARKS/floor                  # the highest version that passed its trial here
BELOW=                              # set: a person wants a version below that
STEADY=${GARDIEN_UPGRADE_STEADY:-20}    # seconds for which it must keep running
WITHIN=${GARDIEN_UPGRADE_WITHIN:-90}    # seconds within which it must answer

say() { echo "gardien-upgrade: $*"; }
# shellcheck disable=SC2016 # dpkg-query's own variables
version() { dpkg-query -W -f '${Version}' gardien 2>/dev/null; }
state() { systemctl show gardien.service -p "$1" --value; }

usage() {
    cat <<'WORDS'
gardien-upgrade [FILE.deb]   the newest version of the archive, or this file
gardien-upgrade --back       the version before
gardien-upgrade --timely     the newest version, if `updates` in the configuration permits it now
gardien-upgrade --below-floor FILE.deb|--back
                             also below the highest version that ran here; a terminal is needed
Exit status: 0 upgraded (or nothing to do); 1 refused, or the version before was restored;
2 wrong usage.
WORDS
}

# While the mark exists, the daemon keeps the formats of the version before, so that restoring it
# loses nothing. The mark is created again each time, never written through a link.
mark() {
    mkdir -p -m 0755 "$MARKS"
    rm -f "$MARK"
    (umask 022 && set -C && echo "$1" >"$MARK")
}

unmark() {
    rm -f "$MARK"
    forget_old_mark
}

# An old version has known faults. So only a person at a terminal may install a version below the
# highest that passed its trial: not the timer, an archive or a script. A version that fails its
# trial sets no floor, so the version before it can always be restored.
floor() { cat "$FLOOR" 2>/dev/null || true; }

set_floor() {
    mkdir -p -m 0755 "$MARKS"
    rm -f "$FLOOR"
    (umask 022 && set -C && echo "$1" >"$FLOOR")
}

raise_floor() {
    floor=$(floor)
    if [ -z "$floor" ] || dpkg --compare-versions "$1" gt "$floor"; then set_floor "$1"; fi
}

keep_floor() {
    floor=$(floor)
    if [ -z "$floor" ] || dpkg --compare-versions "$1" ge "$floor"; then return 0; fi
    if [ -z "$BELOW" ]; then
        say "$1 is below $floor, which ran here: its known faults would come back. Nothing is changed." >&2
        say "At a terminal you may install it: sudo gardien-upgrade --below-floor ${asked:-FILE.deb}" >&2
        exit 1
    fi
    if [ ! -t 0 ]; then
        say "--below-floor asks for a confirmation: run it at a terminal. Nothing is changed." >&2
        exit 1
    fi
    say "$1 is below $floor, which ran here: its known faults return, and data in newer formats wait."
    printf 'Type the version to install it (%s): ' "$1"
    read -r typed || typed=
    [ "$typed" = "$1" ] || { say "nothing is changed" >&2; exit 1; }
    set_floor "$1"
}

# Versions up to 0.1.0 kept the mark in the state directory, which the daemon's account owns. A file
# there proves nothing: it is never written, never followed, and no reason to restore a version.
# Delete this function and the two below one release later.
old_mark() {
    folder=$(sed -n 's/^state:[[:space:]]*["'"'"']\{0,1\}\([^"'"'"'#[:space:]]*\).*/\1/p' "$CONFIG" 2>/dev/null | head -n 1)
    echo "${folder:-/var/lib/gardien}/upgrade"
}

has_old_mark() {
    old_mark=$(old_mark)
    [ -f "$old_mark" ] && [ ! -L "$old_mark" ]
}

# Runs as the account that owns the folder: root changes nothing in it.
forget_old_mark() {
    has_old_mark || return 0
    folder=$(dirname "$old_mark")
    setpriv --reuid="$(stat -L -c %u "$folder")" --regid="$(stat -L -c %g "$folder")" --clear-groups \
        rm -f -- "$old_mark" || true
}

# An upgrade must not interrupt an order, and no order may begin with a version on trial.
may() {
    why=$(gardien updates --config "$CONFIG" "$@" 2>&1) && return 0
    return 1
}

# Pack the installed files as a .deb, so that this version can be restored without a network, even if
# its original package no longer exists.
keep_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' gardien)" = installed ] || return 1
    rm -rf "$KEPT.new"
    mkdir -p "$KEPT.new/tree/DEBIAN"
    dpkg-query -L gardien | while IFS= read -r path; do
        if [ -L "$path" ] || [ -f "$path" ]; then cp -a --parents "$path" "$KEPT.new/tree"; fi
    done
    dpkg-query -s gardien | grep -v -E '^(Status|Config-Version): ' >"$KEPT.new/tree/DEBIAN/control"
    for part in preinst postinst prerm postrm triggers md5sums conffiles; do
        path=$(dpkg-query --control-path gardien "$part")
        if [ -n "$path" ]; then cp -p "$path" "$KEPT.new/tree/DEBIAN/$part"; fi
    done
    dpkg-deb --root-owner-group -Zgzip -b "$KEPT.new/tree" "$KEPT.new/gardien_$1_all.deb" >/dev/null
    rm -rf "$KEPT.new/tree" "$KEPT"
    mv "$KEPT.new" "$KEPT"
}

install_it() {
    # delete the downloaded package after the installation: nobody cleans the card of a gateway
    apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends --allow-downgrades \
        -o APT::Keep-Downloaded-Packages=false -o Dpkg::Options::=--force-confold "$1" </dev/null
}

answers() {
    systemctl is-active --quiet gardien.service &&
        gardien status --json 2>/dev/null | grep -q "\"version\": \"${1%%[-+~]*}"
}

# How many components of the running agent an unexpected error has stopped.
failing() { gardien status --json 2>/dev/null | grep -c '"component":' || true; }

# A version passes its trial if it is active, answers with its own version, keeps running without
# another start, and has no more failing components than the version before.
most=1000
passes() {
    end=$(($(date +%s) + WITHIN))
    while [ "$(date +%s)" -lt "$end" ]; do
        if answers "$1"; then
            pid=$(state MainPID)
            sleep "$STEADY"
            if answers "$1" && [ "$(state MainPID)" = "$pid" ] &&
                [ "$(failing)" -le "$most" ]; then return 0; fi
        fi
        sleep 1
    done
    return 1
}

# Put the version that was just started on trial. If it fails, the version before is restored.
run_trial() {
    if passes "$1"; then
        unmark
        raise_floor "$1"
        say "$1 runs"
        return 0
    fi
    say "$1 does not come up; its last messages:"
    # only its own messages, without those of systemd
    journalctl _SYSTEMD_UNIT=gardien.service -n 10 -o cat --no-pager 2>/dev/null || true
    go_back
    return 1
}

kept() { find "$KEPT" -name 'gardien_*_all.deb' 2>/dev/null | head -n 1; }

go_back() {
    before=$(kept)
    if [ -z "$before" ]; then
        say "no version before is stored: install one by hand"
        exit 1
    fi
    most=1000
    systemctl stop gardien.service || true
    dpkg --force-downgrade --force-confold -i "$before" >/dev/null
    unmark
    systemctl start gardien.service || true
    back=$(version)
    if passes "$back"; then say "$back runs again; nothing is lost"; else
        say "$back does not come up either: systemctl status gardien, journalctl -u gardien"
    fi
}

asked=${1:-}
if [ "$asked" = --below-floor ]; then
    BELOW=1
    shift
    asked=${1:-}
    case "$asked" in '' | --timely) usage >&2; exit 2 ;; esac
fi
case "$asked" in
-h | --help) usage; exit 0 ;;
--back | --timely) ;;
-*) usage >&2; exit 2 ;;
esac
[ "$#" -le 1 ] || { usage >&2; exit 2; }
[ "$(id -u)" = 0 ] || { say "as root: sudo gardien-upgrade" >&2; exit 2; }
exec 9>/run/gardien-upgrade.lock
flock -n 9 || { say "another upgrade is under way" >&2; exit 1; }

old=$(version) || { say "gardien is not installed" >&2; exit 1; }
if [ -e "$MARK" ]; then
    say "$old was on trial when this machine stopped: the trial is repeated now"
    run_trial "$old" || exit 1
elif [ "${1:-}" != --back ] && has_old_mark; then
    if passes "$old"; then forget_old_mark; else
        say "$old does not come up; to restore the version before: sudo gardien-upgrade --back"
    fi
fi
if [ "${1:-}" = --timely ]; then
    grep -q '^updates:' "$CONFIG" 2>/dev/null || exit 0
    may --published 1970-01-01 || exit 0
elif ! may --by-hand; then
    say "not now: $why" >&2
    exit 1
fi
if answers "$old"; then raise_floor "$old"; fi
if [ "${1:-}" = --back ]; then
    if [ -n "$(kept)" ]; then keep_floor "$(dpkg-deb -f "$(kept)" Version)"; fi
    go_back
    exit 0
fi
if [ -n "${1:-}" ] && [ "$1" != --timely ]; then
    [ -r "$1" ] || { say "$1 cannot be read" >&2; exit 2; }
    what=$(readlink -f "$1")
    new=$(dpkg-deb -f "$what" Version) || exit 2
    [ "$(dpkg-deb -f "$what" Package)" = gardien ] || { say "$1 is not gardien" >&2; exit 2; }
else
    apt-get update -q >/dev/null
    new=$(apt-cache policy gardien | sed -n 's/^ *Candidate: //p')
    what=gardien=$new
fi
if [ "$new" = "$old" ]; then say "$old is the newest"; exit 0; fi
if [ "${1:-}" = --timely ]; then
    if dpkg --compare-versions "$new" lt "$old"; then exit 0; fi
    day=$(apt-cache show "$what" | sed -n 's/^Gardien-Published: //p' | head -n 1)
    may ${day:+--published "$day"} || { say "$new: $why"; exit 0; }
fi
keep_floor "$new"

ran=$(systemctl is-active gardien.service || true)
keep_installed "$old"
say "$old to $new"
if [ "$ran" = active ]; then
    most=$(failing)
    mark "$old to $new"
fi
if ! install_it "$what"; then
    say "$new could not be installed"
    go_back
    exit 1
fi
if [ "$ran" != active ]; then say "$new is installed; it did not run before and is not started"; exit 0; fi
run_trial "$new"
