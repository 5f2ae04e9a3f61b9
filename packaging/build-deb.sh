#!/bin/sh
# Build the Debian package from the committed tree: packaging/build-deb.sh [OUTDIR]
#
# Makes in OUTDIR (default: dist) the .deb, its SBOM (CycloneDX) and SHA256SUMS. The same commit
# gives the same bytes. What is vendored is fetched by hash beforehand; the build itself needs no
# network. Needs: apt-get install --no-install-recommends debhelper python3-typer
set -eu
umask 022
export LC_ALL=C.UTF-8 TZ=UTC

top=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
out=${1:-$top/dist}
commit=${GARDIEN_COMMIT:-HEAD}
# the interpreter of Debian, whatever else is on the PATH
PATH=/usr/sbin:/usr/bin:/sbin:/bin
pip=${GARDIEN_PIP:-$top/.venv/bin/pip}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"

git -C "$top" archive --prefix=src/ "$commit" | tar -x -C "$work"
src=$work/src
cp -r "$src/packaging/debian" "$src/debian"
SOURCE_DATE_EPOCH=$(git -C "$top" log -1 --format=%ct "$commit")
export SOURCE_DATE_EPOCH

"$pip" download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
    --dest "$src/packaging/vendor" --requirement "$src/packaging/vendor/requirements.txt"
(cd "$src/packaging/vendor" && sha256sum -- *.whl >SHA256SUMS)

(cd "$src" && dpkg-buildpackage --unsigned-source --unsigned-changes --build=binary) >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; exit 1; }

deb=$(basename "$work"/gardien_*_all.deb)
python3 "$src/packaging/sbom.py" "$work/$deb" >"$out/${deb%.deb}.cdx.json"
cp "$work/$deb" "$out/"
(cd "$out" && sha256sum -- "$deb" "${deb%.deb}.cdx.json" >SHA256SUMS)
echo "$out/$deb"
