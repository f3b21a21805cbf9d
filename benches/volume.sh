#!/usr/bin/env bash
# A Docker volume of many small files, and a Redis server of a gigabyte. Prints Markdown on standard output.
#
#   benches/volume.sh PROGRAM [WORKLOAD...]      WORKLOAD: volume redis all (default)
#
# FILES=N      files in the volume (default 100000)      KEYS=N     keys of 1 KiB in Redis (default 1000000)
# RUNS=N       runs per figure (default 3)               WORK=DIR   where to work (default /var/tmp)
#
# Goals: an unchanged volume in at most 1.5 times a walk that stats everything; a restore no slower than `tar` from a
# local file; Redis in at most 1.3 times its own BGSAVE and a copy of the file.
set -euo pipefail
[ $# -gt 0 ] || { sed -n '2,/^set/{/^#/p}' "$0" >&2 && exit 2; }
program=$(realpath "$1") restic='' rustic='' && shift
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
volume=backstay-bench-$$ redis=''
tidy() {
    [ -z "$redis" ] || { kill "$redis" && wait "$redis"; } 2> /dev/null || true
    docker volume rm -f "$volume" "$volume-copy" > /dev/null 2>&1 || true
    cleanup
}
trap tidy EXIT

# --- A volume ---

volume() {
    local files=${FILES:-100000} place run tool
    need docker tar /usr/bin/time
    docker volume create "$volume" > /dev/null
    place=$(docker volume inspect -f '{{.Mountpoint}}' "$volume")
    say "$files files in $place"
    # A thousand directories; sizes as documents have them, from nothing to 16 KiB.
    python3 - "$place" "$files" << 'PYTHON'
import os, random, sys
place, files = sys.argv[1], int(sys.argv[2])
random.seed(1)
for n in range(files):
    folder = os.path.join(place, f"{n % 1000:03}")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, f"document-{n}"), "wb") as f:
        f.write(random.randbytes(int(random.random() ** 3 * 16384)))
PYTHON
    sync
    sleep 3 # what has just changed is not trusted to be unchanged
    configure "kind = \"volume\"
volume = \"$volume\""
    "$program" -q backup > /dev/null
    tar -cf "$work/volume.tar" -C "$place" .
    for run in $(seq "$runs"); do
        for tool in $(rotated "$run" backstay walk); do
            case $tool in
                backstay) measure unchanged backstay "$program" -q backup ;;
                walk) measure unchanged walk find "$place" -printf '%s %T@ %C@ %i\n' ;;
            esac
        done
        # ext4 searches past every inode that was freed within the last minute, so nothing is removed before both are done,
        # and nothing is made in the minute after that.
        for tool in $(rotated "$run" backstay tar); do
            case $tool in
                backstay) measure restore backstay "$program" -q restore --yes --to "$volume-copy" ;;
                tar)
                    mkdir "$place-tar"
                    # shellcheck disable=SC2016
                    measure restore tar sh -c 'tar -xf "$0" -C "$1" && sync -f "$1"' "$work/volume.tar" "$place-tar"
                    ;;
            esac
        done
        docker volume rm -f "$volume-copy" > /dev/null
        rm -rf "$place-tar"
        sync -f "$place" && sleep 65
    done
    machine "A volume of $files files, $(du -sh --apparent-size "$place" | cut -f1)"
    methods
    table no-disk unchanged restore
    goal 'unchanged to walk' "$(median unchanged backstay 3)" "$(median unchanged walk 3)" 1.5
    goal 'restore to tar' "$(median restore backstay 3)" "$(median restore tar 3)" 1.0
}

# --- Redis ---

redis() {
    local keys=${KEYS:-1000000} port run tool
    need redis-cli redis-server
    port=$(free_port)
    mkdir -p "$work/redis"
    redis-server --port "$port" --bind 127.0.0.1 --dir "$work/redis" --save '' --repl-diskless-sync-delay 0 > /dev/null &
    redis=$!
    cli() { redis-cli -p "$port" "$@"; }
    until cli ping > /dev/null 2>&1; do sleep 0.1; done
    say "$keys keys of 1 KiB"
    cli eval 'for n = 1, tonumber(ARGV[1]) do redis.call("SET", "key:" .. n, redis.sha1hex(n .. "a") .. string.rep(redis.sha1hex(n .. "b"), 24)) end' 0 "$keys" > /dev/null
    for run in $(seq "$runs"); do
        for tool in $(rotated "$run" backstay bgsave); do
            case $tool in
                backstay)
                    configure "kind = \"redis\"
url = \"redis://127.0.0.1:$port\""
                    measure dump backstay "$program" -q backup
                    ;;
                bgsave)
                    rm -f "$work/redis/dump.rdb" "$work/copy.rdb"
                    # shellcheck disable=SC2016
                    measure dump bgsave sh -c 'until redis-cli -p "$0" bgsave | grep -q started; do sleep 0.05; done
                        while redis-cli -p "$0" info persistence | grep -q "rdb_bgsave_in_progress:1"; do sleep 0.05; done
                        cp "$1" "$2" && sync -f "$2"' "$port" "$work/redis/dump.rdb" "$work/copy.rdb"
                    ;;
            esac
        done
    done
    machine "Redis, $(cli info memory | tr -d '\r' | sed -n 's/^used_memory_human://p') in memory"
    methods
    table no-disk dump
    goal 'dump to BGSAVE and copy' "$(median dump backstay 3)" "$(median dump bgsave 3)" 1.3
}

goal() { # WHAT OURS THEIRS LIMIT
    awk -v w="$1" -v a="$2" -v b="$3" -v l="$4" 'BEGIN { printf "\n%s: %.2f, goal %s: %s.\n", w, a / b, l, (a <= b * l ? "met" : "**missed**") }'
}

[ $# -gt 0 ] || set -- all
for workload in "$@"; do
    case $workload in
        all) volume && redis ;;
        volume | redis) $workload ;;
        *) die "unknown workload $workload" ;;
    esac
done
