#!/usr/bin/env bash
# Makes the Debian package of a binary: packaging/deb.sh BINARY DIRECTORY
# The same binary and sources at the same SOURCE_DATE_EPOCH (by default the time of the last commit) give the same bytes.
#
#   BACKSTAY_VERSION       version of the package, by default that of Cargo.toml
#   BACKSTAY_COMPRESSION   xz (default) or none
set -euo pipefail
umask 022
binary=$(realpath "$1")
out=$(realpath -m "$2")
cd "$(dirname "$0")/.."
source packaging/about.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
packaging/stage.sh "$binary" "$root"
put() { install -D -m "$1" "packaging/debian/$2" "$root/$3"; }
put 644 copyright usr/share/doc/backstay/copyright
put 644 lintian-overrides usr/share/lintian/overrides/backstay
rm "$root"/usr/share/doc/backstay/LICENSE-*
# In the form that Debian wants, with one entry; CHANGELOG.md has them all.
gzip -9nc > "$root/usr/share/doc/backstay/changelog.gz" << END
backstay ($version) unstable; urgency=medium

  * See CHANGELOG.md.

 -- $(sed -n 's/^Maintainer: //p' packaging/debian/control)  $(LC_ALL=C date -ud "@$SOURCE_DATE_EPOCH" '+%a, %d %b %Y %T +0000')
END
for script in postinst prerm postrm; do put 755 "$script" "DEBIAN/$script"; done
put 644 conffiles DEBIAN/conffiles

# Libraries with the versions that it was linked against. A static binary has none.
mkdir -p "$work/debian"
printf 'Source: backstay\n\nPackage: backstay\nArchitecture: any\n' > "$work/debian/control"
libraries=$(cd "$work" && dpkg-shlibdeps -O -e"$binary" 2> "$work/shlibdeps" | sed -n 's/^shlibs:Depends=//p') ||
    { cat "$work/shlibdeps" >&2; exit 1; }
depends=${libraries:+$libraries, }ca-certificates
size=$(find "$root" -path "$root/DEBIAN" -prune -o -type f -printf '%s\n' | awk '{ sum += int(($1 + 1023) / 1024) } END { print sum }')
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@SIZE@/$size/" -e "s/@DEPENDS@/$depends/" \
    packaging/debian/control > "$root/DEBIAN/control"
(cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\n' | LC_ALL=C sort | xargs md5sum > DEBIAN/md5sums)
chmod 644 "$root"/DEBIAN/{control,md5sums}
find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

mkdir -p "$out"
package=$out/backstay_${version}_$architecture.deb
# One thread: the compressor cuts by their number.
dpkg-deb --root-owner-group "-Z${BACKSTAY_COMPRESSION:-xz}" --threads-max=1 --build "$root" "$package" > /dev/null
echo "$package"
