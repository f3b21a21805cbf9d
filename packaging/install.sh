#!/bin/sh
# Installs Backstay on a Linux host that has no packages for it, brings an installation up to date, or removes it.
#
#   ./install.sh [--prefix /usr/local]      install, or bring up to date
#   ./install.sh --remove [--prefix …]      remove; configuration, keys and state stay
#
# --root DIRECTORY installs below a directory, for images. Nothing is enabled or started: `backstay timer enable` does that.
set -eu
umask 022
prefix=/usr/local
root=
remove=
while [ $# -gt 0 ]; do
    case $1 in
        --prefix) prefix=${2:?--prefix needs a directory}; shift ;;
        --root) root=${2:?--root needs a directory}; shift ;;
        --remove) remove=yes ;;
        *) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2 ;;
    esac
    shift
done
fail() { echo "install.sh: $*" >&2; exit 1; }
case $prefix in
    /*[!/]) ;;
    *) fail "--prefix $prefix is not an absolute path" ;;
esac
case $prefix$root in
    *[!A-Za-z0-9/._+-]*) fail "a path with such characters is too much for unit files" ;;
esac
[ "$(id -u)" = 0 ] || [ -n "$root" ] || fail "it needs root"

list=$prefix/share/backstay/installed-files
case $prefix in
    /usr | /usr/local) units=$prefix/lib/systemd/system ;;
    *) units=/etc/systemd/system ;;
esac
# Whether systemd runs the host that is meant.
systemd() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

if [ -n "$remove" ]; then
    [ -f "$root$list" ] || fail "there is no installation below $prefix ($list is missing)"
    if systemd; then
        running=$(systemctl list-units --plain --no-legend --state=active,activating 'backstay-restore@*')
        [ -z "$running" ] || fail "a restore is running: $running"
        systemctl stop 'backstay-*.timer' 'backstay-*.service'
        for link in /etc/systemd/system/timers.target.wants/backstay-*.timer /etc/systemd/system/multi-user.target.wants/backstay-*.service; do
            [ ! -L "$link" ] || systemctl disable --quiet "${link##*/}"
        done
    fi
    while read -r file; do rm -f "$root$file"; done < "$root$list"
    rm -f "$root$list"
    for folder in "$prefix/share/backstay" "$prefix/share/doc/backstay"; do
        [ ! -d "$root$folder" ] || find "$root$folder" -depth -type d -exec rmdir {} + 2> /dev/null || :
    done
    ! systemd || systemctl daemon-reload
    echo "removed; /etc/backstay and /var/lib/backstay stay: they have the configuration, the keys and the state"
    exit 0
fi

here=$(cd "$(dirname "$0")" && pwd)
[ -x "$here/root/usr/bin/backstay" ] || fail "$here/root is missing: run it from the unpacked tarball"
# A library that is missing, or another processor: before anything is changed.
"$here/root/usr/bin/backstay" --version > /dev/null ||
    fail "the program does not run here (see above); the tarball with -static in its name needs no libraries"

place() { # a path in the tarball: where it goes
    case $1 in
        usr/lib/systemd/system/*) echo "$units/${1##*/}" ;;
        usr/share/zsh/vendor-completions/*) echo "$prefix/share/zsh/site-functions/${1##*/}" ;;
        usr/*) echo "$prefix/${1#usr/}" ;;
        *) echo "/$1" ;;
    esac
}

[ -d "$root/etc/backstay" ] || mkdir -p -m 700 "$root/etc/backstay"
[ -d "$root/etc/backstay/conf.d" ] || mkdir -m 700 "$root/etc/backstay/conf.d"
mkdir -p "$root${list%/*}"
: > "$root$list.new"
(cd "$here/root" && find . -type f) | sed 's|^\./||' | LC_ALL=C sort | while read -r file; do
    target=$(place "$file")
    mkdir -p "$root${target%/*}"
    # Beside it first, then renamed: the program may be running, and a unit may be read.
    case $file in
        usr/lib/systemd/*) sed "s|/usr/bin/backstay|$prefix/bin/backstay|" "$here/root/$file" > "$root$target.new" ;;
        *) cp -p "$here/root/$file" "$root$target.new" ;;
    esac
    mv -f "$root$target.new" "$root$target"
    echo "$target" >> "$root$list.new"
done
# What an older version had and this one has not.
if [ -f "$root$list" ]; then
    while read -r file; do
        grep -qxF "$file" "$root$list.new" || rm -f "$root$file"
    done < "$root$list"
fi
mv -f "$root$list.new" "$root$list"
if systemd; then
    ! command -v restorecon > /dev/null || restorecon -RF "$prefix/bin/backstay" "$units" /etc/backstay
    systemctl daemon-reload
    systemctl try-restart backstay-serve.service
fi
cat << END
installed $("$here/root/usr/bin/backstay" --version) below $prefix
  next: copy /etc/backstay/backstay.toml.sample to backstay.toml and edit it, then
        backstay init --recovery-out FILE, backstay backup, backstay timer enable
END
