#!/usr/bin/env bash
# Side by side with what a user would pick instead: the same work, one after the other, on this machine, in one run.
# Prints medians and ratios; docs/performance.md keeps results with their date.
#
#   benches/run.sh PROGRAM [tree|database|all]
#
# TREE=DIR      the tree to copy (default /usr)      RUNS=N    runs per figure (default 3)
# WORK=DIR      where to work (default /var/tmp)     ROWS=N    rows of the database (default 9000000, about 2.5 GB)
# RESTIC=PATH   restic (default: restic)             RUSTIC=PATH  rustic, when it is there
set -euo pipefail
program=$(realpath "$1") what=${2:-all}
work=$(mktemp -d "${WORK:-/var/tmp}/backstay-bench.XXXXXX") runs=${RUNS:-3}
restic=${RESTIC:-restic} rustic=${RUSTIC:-$(command -v rustic || true)}
export RESTIC_PASSWORD=bench RUSTIC_PASSWORD=bench RESTIC_CACHE_DIR=$work/restic-cache RUSTIC_CACHE_DIR=$work/rustic-cache
results=$work/results
trap 'rm -rf "$work"' EXIT

# Runs a command, appends "LABEL TOOL SECONDS RSS-KiB".
measure() { # LABEL TOOL COMMAND...
    local label=$1 tool=$2 && shift 2
    /usr/bin/time -f '%e %M' -o "$work/time" "$@" > "$work/out" 2>&1 || { echo "$label $tool FAILED: $*" >&2; tail -5 "$work/out" >&2; exit 1; }
    echo "$label $tool $(tail -1 "$work/time")" | tee -a "$results" >&2
}
median() { awk -v l="$1" -v t="$2" -v c="$3" '$1 == l && $2 == t { print $c }' "$results" | sort -n | awk '{ v[NR] = $1 } END { if (NR) print v[int((NR + 1) / 2)] }'; }
table() { # LABEL...
    printf '%-22s %-10s %10s %10s %10s\n' work tool seconds 'RSS MiB' 'x others'
    local own
    for label in "$@"; do
        own=$(median "$label" backstay 3)
        awk -v l="$label" '$1 == l { print $2 }' "$results" | sort -u | while read -r tool; do
            local s; s=$(median "$label" "$tool" 3)
            printf '%-22s %-10s %10s %10s %10s\n' "$label" "$tool" "$s" "$(($(median "$label" "$tool" 4) / 1024))" \
                "$([ "$tool" = backstay ] && echo - || awk -v a="$own" -v b="$s" 'BEGIN { printf "%.2f", (b > 0 ? a / b : 0) }')"
        done
    done
}
config() { # REPOSITORY SOURCE-LINES
    cat > "$work/backstay.toml" << TOML
host = "bench"
state_dir = "$work/state"
[repository]
url = "file://$1"
[keys]
identity_file = "$work/host.key"
[sources.s]
$2
[plans.p]
sources = ["s"]
TOML
}
export BACKSTAY_CONFIG=$work/backstay.toml
fresh() { rm -rf "$work"/{state,host.key,recovery.key,own,restic,rustic,restic-cache,rustic-cache}; }

tree() {
    local data=$work/data
    echo "copying ${TREE:-/usr}" >&2 && cp -a "${TREE:-/usr}" "$data"
    find "$data" -type s -delete
    echo "$(find "$data" | wc -l) entries, $(du -sm "$data" | cut -f1) MiB" >&2
    local change_one="find $data -type f -size +0 | sort | head -n \$(( \$(find $data -type f | wc -l) / 100 )) | while read -r f; do echo x >> \"\$f\"; done"
    local change_all="find $data -type f -size +0 | sort | awk 'NR % 100 == 1' | while read -r f; do echo x >> \"\$f\"; done"
    for run in $(seq "$runs"); do
        fresh
        config "$work/own" "kind = \"files\"
paths = [\"$data\"]"
        "$program" -q init --recovery-out "$work/recovery.key" > /dev/null
        "$restic" -q init -r "$work/restic" > /dev/null
        [ -z "$rustic" ] || "$rustic" -r "$work/rustic" init > /dev/null 2>&1
        sleep 2.2
        each() { # LABEL
            measure "$1" backstay "$program" -q backup
            measure "$1" restic "$restic" -q backup -r "$work/restic" "$data"
            [ -z "$rustic" ] || measure "$1" rustic "$rustic" -r "$work/rustic" backup "$data"
        }
        each first
        echo "stored MiB: backstay $(du -sm "$work/own" | cut -f1) restic $(du -sm "$work/restic" | cut -f1) rustic $(du -sm "$work/rustic" 2> /dev/null | cut -f1)" >&2
        measure unchanged stat-walk find "$data" -printf '%s %T@ %C@\n'
        each unchanged
        bash -c "$change_one" && sleep 2.2 && each one-percent-one-place
        bash -c "$change_all" && sleep 2.2 && each one-percent-scattered
        measure restore backstay bash -c "'$program' -q restore --to '$work/out-own' && sync -f '$work/out-own'" && rm -rf "$work/out-own"
        measure restore restic bash -c "'$restic' -q restore latest -r '$work/restic' --target '$work/out-restic' && sync -f '$work/out-restic'" && rm -rf "$work/out-restic"
        [ -z "$rustic" ] || { measure restore rustic bash -c "'$rustic' -r '$work/rustic' restore latest '$work/out-rustic' && sync -f '$work/out-rustic'" && rm -rf "$work/out-rustic"; }
    done
    table first unchanged one-percent-one-place one-percent-scattered restore
    rm -rf "$data"
}

database() {
    local port=$((20000 + RANDOM % 20000))
    pg=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)
    server() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }
    mkdir -p "$work/pg" && chmod 755 "$work" && { [ "$(id -u)" != 0 ] || chown postgres "$work/pg"; }
    server "$pg/initdb" -D "$work/pg/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync > /dev/null
    server "$pg/pg_ctl" -D "$work/pg/data" -w -l "$work/pg/log" -o "-p $port -k $work/pg -c listen_addresses= -c shared_buffers=512MB -c max_wal_size=8GB" start > /dev/null
    trap 'server "$pg/pg_ctl" -D "$work/pg/data" -m immediate stop > /dev/null 2>&1; rm -rf "$work"' EXIT
    export PGHOST=$work/pg PGPORT=$port PGUSER=postgres
    psql -qc 'CREATE DATABASE bench'
    psql -q bench -c "CREATE TABLE a AS SELECT g AS id, md5(g::text) AS name, now() + g * interval '1 s' AS at, g * 1.1 AS amount, 'text ' || md5((g % 5000)::text) || ' of row ' || g AS note FROM generate_series(1, ${ROWS:-9000000}) g;
        ALTER TABLE a ADD PRIMARY KEY (id); CREATE INDEX ON a (name); CREATE INDEX ON a (at); CREATE INDEX ON a (amount)"
    psql -q bench -c 'VACUUM ANALYZE a'
    psql -XAtc "SELECT pg_size_pretty(pg_database_size('bench'))" >&2
    age-keygen -o "$work/age.key" 2> /dev/null
    local to; to=$(age-keygen -y "$work/age.key")
    for run in $(seq "$runs"); do
        fresh
        config "$work/own" "kind = \"postgres\"
url = \"postgresql://postgres@/bench?host=$work/pg&port=$port\""
        "$program" -q init --recovery-out "$work/recovery.key" > /dev/null
        "$restic" -q init -r "$work/restic" > /dev/null
        measure dump backstay "$program" -q backup
        measure dump pipe bash -c "set -o pipefail; '$pg/pg_dump' -Fc -Z0 bench | zstd -3 -q | age -r $to > '$work/pipe' && sync '$work/pipe'"
        measure dump restic bash -c "set -o pipefail; '$pg/pg_dump' -Fc -Z0 bench | '$restic' -q backup -r '$work/restic' --stdin"
        measure dump-again backstay "$program" -q backup
        measure dump-again restic bash -c "set -o pipefail; '$pg/pg_dump' -Fc -Z0 bench | '$restic' -q backup -r '$work/restic' --stdin"
        measure load backstay bash -c "'$program' -q restore --to copy && sync -f '$work/pg'" && psql -qc 'DROP DATABASE copy'
        psql -qc 'CREATE DATABASE copy'
        measure load pipe bash -c "set -o pipefail; age -d -i '$work/age.key' '$work/pipe' | zstd -dcq | '$pg/pg_restore' -d copy && psql -qc ANALYZE copy && sync -f '$work/pg'" && psql -qc 'DROP DATABASE copy'
    done
    table dump dump-again load
}

case $what in
    tree) tree ;;
    database) database ;;
    all) tree && database ;;
esac
