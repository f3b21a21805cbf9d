#!/usr/bin/env bash
# PostgreSQL majors beside the machine's own, each with its tools out of another Debian release: unpacked below a
# directory, never installed, so that nothing of the machine changes. Tests run them in containers. Run again, it
# finds them and does nothing.
set -euo pipefail
to=$HOME/.cache/backstay-tools/pg
mkdir -p "$to" && cd "$to"
scripts=$(mktemp -d) && trap 'rm -rf "$scripts"' EXIT
cp -r /usr/share/debootstrap/. "$scripts/"
# Releases newer than this machine's debootstrap are made in the way of the development release.
for suite in trixie forky; do [ -e "$scripts/scripts/$suite" ] || ln -s sid "$scripts/scripts/$suite"; done
unpack() { # MAJOR SUITE
    [ ! -d "$1" ] || return 0
    echo "unpacking PostgreSQL $1"
    rm -rf "$1.part"
    # Only the first stage: what is unpacked runs, and configuring it takes minutes.
    DEBOOTSTRAP_DIR=$scripts debootstrap --foreign --variant=minbase --include="postgresql-$1,postgresql-client-$1" \
        "$2" "$1.part" > "$scripts/log" 2>&1 || { tail -20 "$scripts/log" >&2; exit 1; }
    for deb in "$1.part"/var/cache/apt/archives/*.deb; do dpkg -x "$deb" "$1.part"; done
    rm -rf "$1.part/var" "$1.part/boot" "$1.part/usr/share/doc" "$1.part/usr/share/locale" "$1.part/usr/share/man"
    mv "$1.part" "$1"
}
unpack 13 bullseye
unpack 17 trixie
unpack 18 forky
