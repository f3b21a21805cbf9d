#!/usr/bin/env bash
# Makes the tarball for hosts that are not Debian: packaging/tarball.sh BINARY DIRECTORY [SUFFIX]
# It holds the same files as the package, and install.sh. Reproducible as the package is.
# BACKSTAY_COMPRESSION=none makes haste instead of a small file.
set -euo pipefail
umask 022
binary=$(realpath "$1")
out=$(realpath -m "$2")
suffix=${3:-}
cd "$(dirname "$0")/.."
source packaging/about.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
name=backstay-$version-$(uname -m)-linux$suffix
mkdir "$work/$name"
packaging/stage.sh "$binary" "$work/$name/root"
install -m 755 packaging/install.sh "$work/$name/install.sh"
mkdir -p "$out"
tar --create --directory="$work" --sort=name --format=gnu --owner=0 --group=0 --numeric-owner \
    --mtime="@$SOURCE_DATE_EPOCH" "$name" | gzip "-$([ "${BACKSTAY_COMPRESSION:-}" = none ] && echo 1 || echo 9)n" > "$out/$name.tar.gz"
echo "$out/$name.tar.gz"
