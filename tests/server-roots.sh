#!/usr/bin/env bash
# Servers of other releases beside the machine's own, each with its tools out of another Debian release: unpacked below
# a directory, never installed, so that nothing of the machine changes. Run again, it finds them and does nothing.
set -euo pipefail
to=$HOME/.cache/backstay-tools
mkdir -p "$to" && cd "$to"
scripts=$(mktemp -d) && trap 'rm -rf "$scripts"' EXIT
cp -r /usr/share/debootstrap/. "$scripts/"
# Releases newer than this machine's debootstrap are made in the way of the development release.
for suite in trixie forky; do [ -e "$scripts/scripts/$suite" ] || ln -s sid "$scripts/scripts/$suite"; done
unpack() { # DIRECTORY SUITE PACKAGES
    [ ! -d "$1" ] || return 0
    echo "unpacking $3 of $2"
    rm -rf "$1.part" && mkdir -p "$1.part"
    # Only the first stage: what is unpacked runs, and configuring it takes minutes.
    DEBOOTSTRAP_DIR=$scripts debootstrap --foreign --variant=minbase --include="$3" \
        "$2" "$1.part" > "$scripts/log" 2>&1 || { tail -20 "$scripts/log" >&2; exit 1; }
    for deb in "$1.part"/var/cache/apt/archives/*.deb; do dpkg -x "$deb" "$1.part"; done
    # The container gets /usr alone. Some versions of debootstrap make /lib a link into it in the second stage only.
    for dir in bin sbin lib lib64; do
        [ -d "$1.part/$dir" ] && [ ! -L "$1.part/$dir" ] || continue
        mkdir -p "$1.part/usr/$dir"
        cp -a "$1.part/$dir/." "$1.part/usr/$dir/"
        rm -rf "${1:?}.part/$dir"
        ln -s "usr/$dir" "$1.part/$dir"
    done
    rm -rf "$1.part/var" "$1.part/boot" "$1.part/usr/share/doc" "$1.part/usr/share/locale" "$1.part/usr/share/man"
    mv "$1.part" "$1"
}
# PostgreSQL runs in containers. 14 and 16 are in no release of Debian.
unpack pg/13 bullseye postgresql-13,postgresql-client-13
unpack pg/17 trixie postgresql-17,postgresql-client-17
unpack pg/18 forky postgresql-18,postgresql-client-18
# Redis runs with the loader and the libraries of its release.
unpack redis/bullseye/root bullseye redis-server
unpack redis/trixie/root trixie redis-server,valkey-server
