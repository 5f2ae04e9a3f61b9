#!/bin/sh
# A signed APT repository out of packages: packaging/repo.sh KEY DIR DEB…
#
# Adds the packages to DIR (a static folder for any web server) and signs it anew with the secret
# key KEY of gpg's keyring (GNUPGHOME). Older versions stay, so that gateways can go back; what is
# already there is never changed. On the gateway, /etc/apt/sources.list.d/gardien.sources:
#
#   Types: deb
#   URIs: https://packages.example/gardien
#   Suites: trixie
#   Components: main
#   Signed-By: /usr/share/keyrings/gardien.gpg        <- DIR/gardien.gpg
#
# Needs: apt-get install apt-utils gpg
set -eu
umask 022
export LC_ALL=C.UTF-8
PATH=/usr/sbin:/usr/bin:/sbin:/bin

[ "$#" -ge 3 ] || { sed -n '2,3p' "$0" >&2; exit 2; }
key=$1 dir=$2
shift 2
pool=pool/main/g/gardien dist=dists/trixie
mkdir -p "$dir/$pool"

for deb in "$@"; do
    there=$dir/$pool/$(basename "$deb")
    if [ -e "$there" ]; then
        cmp -s "$deb" "$there" || { echo "$(basename "$deb") is published already, with other bytes" >&2; exit 1; }
    else
        cp "$deb" "$there"
    fi
done

cd "$dir"
# when a version appeared here: gateways of later rings count from it
touch published
for deb in "$pool"/*.deb; do
    grep -q "^$deb " published || echo "$deb ${GARDIEN_PUBLISHED:-$(date -u +%FT%TZ)}" >>published
done

for arch in amd64 arm64 armhf; do
    to=$dist/main/binary-$arch
    mkdir -p "$to"
    apt-ftparchive --arch all packages pool |
        awk 'NR == FNR { day[$1] = $2; next }
             { print }
             $1 == "Filename:" { print "Gardien-Published: " day[$2] }' published - >"$to/Packages"
    gzip -9nkf "$to/Packages"
done
rm -f "$dist/Release" "$dist/InRelease" "$dist/Release.gpg"
apt-ftparchive \
    -o APT::FTPArchive::Release::Origin=gardien -o APT::FTPArchive::Release::Label=gardien \
    -o APT::FTPArchive::Release::Suite=trixie -o APT::FTPArchive::Release::Codename=trixie \
    -o APT::FTPArchive::Release::Components=main \
    -o APT::FTPArchive::Release::Architectures="amd64 arm64 armhf all" \
    release "$dist" >"$dist/Release.new"
mv "$dist/Release.new" "$dist/Release"
gpg --batch --yes --local-user "$key" --clearsign --output "$dist/InRelease" "$dist/Release"
gpg --batch --yes --local-user "$key" --armor --detach-sign --output "$dist/Release.gpg" "$dist/Release"
gpg --batch --yes --export "$key" >gardien.gpg
