#!/bin/sh
# Build the Debian packages from the committed tree: packaging/build-deb.sh [OUTDIR]
#
# Makes in OUTDIR (default: dist) gardien, gardien-web and gardien-receiver, their SBOMs (CycloneDX) and
# SHA256SUMS, and prints the path of gardien. The same commit gives the same bytes. What is vendored is fetched by hash beforehand; the build itself needs no
# network. It works in a fresh clone on Debian 13; where a package is missing it names the command.
set -eu
umask 022
export LC_ALL=C.UTF-8 TZ=UTC

top=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
out=${1:-$top/dist}
commit=${GARDIEN_COMMIT:-HEAD}
# the interpreter of Debian, whatever else is on the PATH
PATH=/usr/sbin:/usr/bin:/sbin:/bin

NEEDS="build-essential debhelper git python3-pip python3-typer python3-zstandard"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"

git -C "$top" archive --prefix=src/ "$commit" | tar -x -C "$work"
src=$work/src
cp -r "$src/packaging/debian" "$src/debian"
SOURCE_DATE_EPOCH=$(git -C "$top" log -1 --format=%ct "$commit")
export SOURCE_DATE_EPOCH

# that of the virtual environment, where there is one, else Debian's
pip() {
    if [ -n "${GARDIEN_PIP:-}" ]; then "$GARDIEN_PIP" "$@"
    elif [ -x "$top/.venv/bin/pip" ]; then "$top/.venv/bin/pip" "$@"
    else python3 -m pip "$@"; fi
}
if ! missing=$( (cd "$src" && dpkg-checkbuilddeps) 2>&1) || ! missing=$(pip --version 2>&1); then
    echo "$missing" >&2
    echo "As root: apt-get install --no-install-recommends $NEEDS" >&2
    exit 1
fi

pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
    --dest "$src/packaging/vendor" --requirement "$src/packaging/vendor/requirements.txt"
(cd "$src/packaging/vendor" && sha256sum -- *.whl >SHA256SUMS)

(cd "$src" && dpkg-buildpackage --unsigned-source --unsigned-changes --build=binary) >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; exit 1; }

for deb in gardien gardien-web gardien-receiver; do
    deb=$(basename "$work/${deb}"_*_all.deb .deb)
    python3 "$src/packaging/sbom.py" "$work/$deb.deb" >"$out/$deb.cdx.json"
    cp "$work/$deb.deb" "$out/"
done
(cd "$out" && sha256sum -- gardien*_*_all.deb gardien*_*_all.cdx.json >SHA256SUMS)
echo "$out/$(basename "$work"/gardien_*_all.deb)"
