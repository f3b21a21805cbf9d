#!/usr/bin/env bash
# Lays out everything that an installation has, below a directory: packaging/stage.sh BINARY DIRECTORY
# The package and the tarball are both made of this. Manual pages and completions come from the binary itself.
set -euo pipefail
umask 022
binary=$(realpath "$1")
root=$(realpath -m "$2")
cd "$(dirname "$0")/.."
epoch=${SOURCE_DATE_EPOCH:?the time that files get}

put() { # MODE DIRECTORY FILE...
    install -d "$root/$2"
    install -m "$1" -t "$root/$2" "${@:3}"
}

put 755 usr/bin "$binary"
[ "$(basename "$binary")" = backstay ] || mv "$root/usr/bin/$(basename "$binary")" "$root/usr/bin/backstay"
backstay=$root/usr/bin/backstay
put 644 usr/lib/systemd/system systemd/*

"$backstay" man "$root/usr/share/man/man1"
gzip -9n "$root"/usr/share/man/man1/*
install -d "$root"/usr/share/{bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d}
"$backstay" completions bash > "$root/usr/share/bash-completion/completions/backstay"
"$backstay" completions zsh > "$root/usr/share/zsh/vendor-completions/_backstay"
"$backstay" completions fish > "$root/usr/share/fish/vendor_completions.d/backstay.fish"

# Keys and passwords will lie here.
install -d -m 700 "$root/etc/backstay" "$root/etc/backstay/conf.d"
install -m 644 config/backstay.toml "$root/etc/backstay/backstay.toml.sample"

put 755 usr/share/backstay config/recover.sh
cp -r config/policies "$root/usr/share/backstay/policies"
cp -r dashboards "$root/usr/share/backstay/dashboards"
put 644 usr/share/doc/backstay README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT
put 644 usr/share/doc/backstay/docs docs/*.md
put 644 usr/share/doc/backstay/docs/runbooks docs/runbooks/*.md
put 644 usr/share/doc/backstay/examples config/examples/*
put 755 usr/share/doc/backstay/examples packaging/on-failure

# What was copied whole came with the modes that the checkout happened to have.
find "$root/usr" -type f ! -perm -u+x -exec chmod 644 {} +
find "$root/usr" -type d -exec chmod 755 {} +
find "$root" -exec touch --no-dereference --date="@$epoch" {} +
