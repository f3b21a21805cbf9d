#!/usr/bin/env bash
# Makes package and tarball of a binary twice, as differently as can be, compares the bytes, and asks lintian:
# packaging/check.sh BINARY
set -euo pipefail
binary=$(realpath "$1")
cd "$(dirname "$0")/.."
command -v lintian > /dev/null || { echo "check.sh: lintian is missing (apt-get install lintian)" >&2; exit 1; }
one=$(mktemp -d)
two=$(mktemp -d)
trap 'rm -rf "$one" "$two"' EXIT

cp "$binary" "$two/backstay"
for what in deb tarball; do
    (umask 022; TZ=UTC LC_ALL=C "packaging/$what.sh" "$binary" "$one/out")
    (umask 077; TZ=Asia/Tokyo LC_ALL=C.UTF-8 TMPDIR=$two "packaging/$what.sh" "$two/backstay" "$two/out")
done
for file in "$one"/out/*; do
    cmp "$file" "$two/out/$(basename "$file")"
    echo "the same twice: $(basename "$file"), $(stat -c %s "$file") bytes, sha256 $(sha256sum < "$file" | cut -c1-16)"
done
lintian --fail-on error,warning "$one"/out/*.deb
