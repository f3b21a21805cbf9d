#!/usr/bin/env bash
# Gets one artifact out of a vault without Backstay: with age, zstd and jq, and with b3sum where it is there.
# docs/recover-by-hand.md explains each step. Copy the vault (the folder named like the host) to this machine
# first, with whatever copies from your store: cp -r, aws s3 sync, gsutil rsync, rclone copy.
#
#   recover.sh VAULT IDENTITY                             lists backups
#   recover.sh VAULT IDENTITY PLAN BACKUP                 lists the artifacts of one
#   recover.sh VAULT IDENTITY PLAN BACKUP SOURCE ARTIFACT > FILE
#
# IDENTITY is an identity file, or `-` for a passphrase, which age asks for on the terminal.
# The output is a plain tar, a PostgreSQL custom archive, SQL, … as the list says.
set -euo pipefail
die() { echo "recover.sh: $*" >&2; exit 1; }
[ $# -ge 2 ] || die "usage: recover.sh VAULT IDENTITY [PLAN BACKUP [SOURCE ARTIFACT]]"
vault=$1 identity=$2
for tool in age zstd jq; do command -v $tool > /dev/null || die "$tool is not installed"; done
[ -f "$vault/vault.json" ] || die "$vault holds no vault.json"
[ "$(jq .format "$vault/vault.json")" = 1 ] || die "this vault has a newer format than this script"
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT && chmod 700 "$work"

# 1. The key files: every one that the identity opens holds the identity of its epoch and the vault secret.
for file in "$vault"/keys/*/*.age; do
    if [ "$identity" = - ]; then
        # Only files that are sealed to a passphrase ask for one, on the terminal.
        head -2 "$file" | grep -q '^-> scrypt ' || continue
        age -d "$file" > "$work/key.json" || continue
    else
        age -d -i "$identity" "$file" > "$work/key.json" 2> "$work/why" || continue
    fi
    jq -r .epoch_identity "$work/key.json" >> "$work/epochs"
    secret=$(jq -r .vault_secret "$work/key.json")
done
[ -s "$work/epochs" ] || die "the identity opens no key file: $(cat "$work/why" 2> /dev/null)"

# 2. The keys that prove authorship, when b3sum is there.
if command -v b3sum > /dev/null; then
    derive() { printf "$(sed 's/../\\x&/g' <<< "$secret")" | b3sum --raw --derive-key "$1"; }
    derive "backstay 2026 v1 pack name" > "$work/name.key"
    derive "backstay 2026 v1 record code" > "$work/record.key"
else
    echo "recover.sh: b3sum is not installed: damage is still seen, forgery is not" >&2
fi

# Opens a record (a manifest or a segment): a code, a newline, a zstd frame.
record() { # KIND KEY
    [ -f "$vault/$2" ] || { why="$2 is missing" && return 1; }
    age -d -i "$work/epochs" "$vault/$2" > "$work/record" 2> /dev/null || { why="$2 cannot be opened" && return 1; }
    tail -c +66 "$work/record" > "$work/frame"
    if [ -f "$work/record.key" ]; then
        printf 'backstay record 1\n%s\n%s\n%s\n' "$(jq -r .vault "$vault/vault.json")" "$1" "$2" | cat - "$work/frame" > "$work/bound"
        code=$(b3sum --no-names --keyed "$work/bound" < "$work/record.key")
        [ "$code" = "$(head -c 64 "$work/record")" ] || { why="$2 is not authentic" && return 1; }
    fi
    zstd -dcq "$work/frame" > "$work/body"
}

# Opens a pack into $work/pack and proves its name.
pack() { # NAME-GENERATION LENGTH
    age -d -i "$work/epochs" "$1" 2> /dev/null | zstd -dcq > "$work/pack" 2> /dev/null || return 1
    [ "$(stat -c %s "$work/pack")" = "$2" ] || return 1
    [ ! -f "$work/name.key" ] || [ "$(b3sum --no-names --keyed "$work/pack" < "$work/name.key")" = "$(basename "$1" | cut -d- -f1)" ]
}

if [ $# -lt 4 ]; then
    (cd "$vault/backups" && find . -type f | sed 's,^\./,,; s,/, ,' | sort)
    exit
fi
record manifest "backups/$3/$4" || die "$why"
mv "$work/body" "$work/manifest"
if [ $# -lt 6 ]; then
    jq -r '.sources[] | .name as $s | .artifacts[] | "\($s)\t\(.name)\t\(.media)\t\(.bytes) bytes"' "$work/manifest"
    exit
fi

# 3. The recipe: for each segment the packs it names, then every extent in order; neighbours are joined.
jq -r --arg s "$5" --arg a "$6" '.sources[] | select(.name == $s) | .artifacts[] | select(.name == $a) | .segments[].object' "$work/manifest" > "$work/segments"
[ -s "$work/segments" ] || die "the backup holds no artifact $6 of source $5"
while read -r segment; do
    found=
    # Should a segment be damaged, a later generation of it may be sound.
    for candidate in "$segment" $(cd "$vault/meta/${segment:0:2}" && ls | grep "^${segment%-*}-" || true); do
        if record segment "meta/${candidate:0:2}/$candidate"; then found=1 && break; fi
    done
    [ -n "$found" ] || die "$why"
    jq -rn 'input as $h | inputs | .x[] | "\($h.packs[.[0]][0]) \($h.packs[.[0]][2]) \(.[1]) \(.[2])"' "$work/body"
done < "$work/segments" | awk '
    $1 == name && $3 == offset + length_ { length_ += $4; next }
    { if (name) print name, plain, offset, length_; name = $1; plain = $2; offset = $3; length_ = $4 }
    END { if (name) print name, plain, offset, length_ }' > "$work/extents"

# 4. The bytes. Should a pack be damaged, a later generation of it may be sound.
current=
while read -r name plain offset length; do
    if [ "$name" != "$current" ]; then
        found=
        for candidate in "$vault/packs/${name:0:2}/$name" "$vault/packs/${name:0:2}/${name%-*}"-*; do
            if [ -f "$candidate" ] && pack "$candidate" "$plain"; then found=1 && break; fi
        done
        [ -n "$found" ] || die "pack $name is missing or damaged in every generation"
        current=$name
    fi
    dd if="$work/pack" bs=1M iflag=skip_bytes,count_bytes skip="$offset" count="$length" status=none
done < "$work/extents"
