# shellcheck shell=bash disable=SC2034,SC2154 # names that the sourcing script sets or uses
# What the benches share: a place to work, measuring, medians as Markdown, throw-away servers. Sourced, not run.
#
# WORK=DIR  where to work (default /var/tmp: /tmp may be memory)     RUNS=N  runs per figure (default 3)

runs=${RUNS:-3}
work=$(mktemp -d "${WORK:-/var/tmp}/backstay-bench.XXXXXX")
results=$work/results
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
garage_pid='' cluster=''

# make installs the tools there; a run by hand should find the same ones.
PATH=$HOME/.cache/backstay-tools/fast/bin:$HOME/.cache/backstay-tools/bin:$PATH

cleanup() {
    [ -z "$garage_pid" ] || kill "$garage_pid" 2> /dev/null || true
    [ -z "$cluster" ] || as_server "$pg/pg_ctl" -D "$cluster" -m immediate stop > /dev/null 2>&1 || true
    [ -n "${KEEP:-}" ] || rm -rf "$work"
}
trap cleanup EXIT
# Without these a bench that is interrupted would leave its servers behind.
trap 'exit 130' INT
trap 'exit 143' TERM

say() { echo "$*" >&2; }
die() { say "$*"; exit 1; }
need() { for n in "$@"; do command -v "$n" > /dev/null || die "$n is missing; tests/setup.sh bench installs it"; done; }

# Runs a command; appends "LABEL TOOL wall user system RSS-KiB disk-KiB". Time and memory are those of everything that
# the command started and waited for: of a pipe the sum of the CPU seconds, and the RSS of its largest process.
# Disk is the most that ever lay in $work/tmp/TOOL, looked at twice a second.
measure() { # LABEL TOOL COMMAND...
    local label=$1 tool=$2 status=0 && shift 2
    local tmp=$work/tmp/$tool
    mkdir -p "$tmp"
    echo 0 > "$work/disk"
    (
        most=0
        # A file that goes while du looks at it is no reason to stop.
        while sleep 0.5; do
            now=$(du -sk "$tmp" 2> /dev/null | cut -f1 || true)
            [ "${now:-0}" -le "$most" ] || { most=$now && echo "$most" > "$work/disk"; }
        done
    ) &
    local sampler=$!
    TMPDIR=$tmp /usr/bin/time -f '%e %U %S %M' -o "$work/time" "$@" > "$work/out" 2>&1 || status=$?
    kill "$sampler" 2> /dev/null || true
    wait "$sampler" 2> /dev/null || true
    if [ "$status" != 0 ]; then
        say "$label $tool FAILED ($status): $*"
        tail -5 "$work/out" >&2
        exit 1
    fi
    # What is there at the end counts too: a quick command ends between two looks. An empty folder is 4 KiB.
    local left disk
    left=$(du -sk "$tmp" | cut -f1)
    disk=$(cat "$work/disk")
    [ "$left" -le "$disk" ] || disk=$left
    [ "$disk" -gt 4 ] || disk=0
    echo "$label $tool $(tail -1 "$work/time") $disk" | tee -a "$results" >&2
}

# The tools of one run, beginning with another one each time: what comes first pays for a cold cache and a busy disk.
rotated() { # RUN TOOL...
    local n=$1 && shift
    n=$(((n - 1) % $#))
    echo "${@:n+1}" "${@:1:n}"
}

median() { # LABEL TOOL COLUMN
    awk -v l="$1" -v t="$2" -v c="$3" '$1 == l && $2 == t { print $c }' "$results" | sort -n |
        awk '{ v[NR] = $1 } END { if (NR % 2) print v[(NR + 1) / 2]; else if (NR) print (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}
spread() { # LABEL TOOL
    awk -v l="$1" -v t="$2" '$1 == l && $2 == t { if (!n++ || $3 < a) a = $3; if ($3 > b) b = $3 } END { printf "%s to %s", a, b }' "$results"
}

# Medians as a Markdown table. "ratio" is Backstay's time divided by that tool's: below 1, Backstay is faster.
table() { # with-disk|no-disk LABEL...
    local with=$1 && shift
    local head='| work | tool | wall s | range | ratio | CPU s (user + system) | peak RSS MiB |' line='|---|---|---|---|---|---|---|'
    [ "$with" = no-disk ] || { head+=' temporary disk MiB |' && line+='---|'; }
    printf '\n%s\n%s\n' "$head" "$line"
    local label tool own s
    for label in "$@"; do
        own=$(median "$label" backstay 3)
        awk -v l="$label" '$1 == l && !seen[$2]++ { print $2 }' "$results" | sort | while read -r tool; do
            s=$(median "$label" "$tool" 3)
            printf '| %s | %s | %s | %s | %s | %s + %s | %s |' "${label//-/ }" "$tool" "$s" "$(spread "$label" "$tool")" \
                "$(awk -v a="$own" -v b="$s" -v t="$tool" 'BEGIN { if (t != "backstay" && a != "" && b > 0) printf "%.2f", a / b }')" \
                "$(median "$label" "$tool" 4)" "$(median "$label" "$tool" 5)" \
                "$(awk -v k="$(median "$label" "$tool" 6)" 'BEGIN { printf "%.0f", k / 1024 }')"
            [ "$with" = no-disk ] || printf ' %s |' "$(awk -v k="$(median "$label" "$tool" 7)" 'BEGIN { printf "%.0f", k / 1024 }')"
            printf '\n'
        done
    done
}

# Writes a configuration with one source and one plan, and makes its repository with fresh keys.
configure() { # SOURCE-LINES [URL [REPOSITORY-LINES]]
    export BACKSTAY_CONFIG=$work/backstay.toml
    rm -rf "$work"/{state,host.key,recovery.key,own}
    cat > "$BACKSTAY_CONFIG" << TOML
host = "bench"
state_dir = "$work/state"
[repository]
url = "${2:-file://$work/own}"
${3:-}
[keys]
identity_file = "$work/host.key"
[sources.s]
$1
[plans.p]
sources = ["s"]
TOML
    "$program" -q init --recovery-out "$work/recovery.key" > /dev/null
}

# Figures without a time, as a sentence: remembered one by one, and later told together.
remember() { printf '%s\t%s\t%s\n' "$1" "$2" "$3" >> "$work/stored"; } # WHAT TOOL MiB
stored() { # WHAT
    [ -e "$work/stored" ] || return 0
    printf '\n%s, MiB (last run): ' "$1"
    awk -F '\t' -v w="$1" '$1 == w { v[$2] = $3 } END { for (t in v) { printf "%s%s %s", (n++ ? ", " : ""), t, v[t] } print "." }' "$work/stored"
}

machine() { # TITLE
    printf '## %s\n\n' "$1"
    printf '%s. %s, %s cores, %s MiB memory, %s on %s, kernel %s, %s. Load at the beginning: %s.\n' \
        "$(date -u +%Y-%m-%d)" "$(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo)" "$(nproc)" \
        "$(awk '/MemTotal/ { printf "%d", $2 / 1024 }' /proc/meminfo)" "$(df --output=fstype "$work" | tail -1)" \
        "$(df --output=source "$work" | tail -1)" "$(uname -r)" "$(. /etc/os-release && echo "$PRETTY_NAME")" "$(cut -d' ' -f1 /proc/loadavg)"
    local tool said tools
    tools="$("$program" --version) at $(git -C "$here" rev-parse --short HEAD 2> /dev/null || echo 'no commit')"
    for tool in "$restic version" "$rustic --version" 'psql --version' 'zstd --version' 'age --version' 'garage --version' 'rclone version'; do
        # One that is not used here is not named; age says no more than its number.
        said=$($tool 2> /dev/null | head -1 | cut -c1-60 || true)
        [ -z "$said" ] || tools+="; $([[ $said =~ ^[a-z*] ]] || echo "${tool%% *} ")$said"
    done
    echo "$tools."
}

methods() {
    printf '\nMedians of %s runs; in each run another tool comes first. Nothing is dropped from the page cache, for any tool. Restores and loads end with a sync. CPU and RSS are those of the processes of the tool itself, not of a server that it talks to; RSS of the largest one. Ratio: time of Backstay divided by that of the tool.\n' "$runs"
}

free_port() {
    local port
    while true; do
        port=$((20000 + RANDOM % 20000))
        (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null || break
    done
    echo "$port"
}

as_server() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }

# A cluster of its own on a socket. Without autovacuum: it would work beside one tool and not beside another.
start_cluster() {
    pg=$(find /usr/lib/postgresql -maxdepth 2 -name bin | sort -V | tail -1)
    [ -n "$pg" ] || die 'PostgreSQL is missing; tests/setup.sh bench installs it'
    cluster=$work/pg/data
    mkdir -p "$work/pg" && chmod 755 "$work" && { [ "$(id -u)" != 0 ] || chown postgres "$work/pg"; }
    as_server "$pg/initdb" -D "$cluster" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync > /dev/null
    PGPORT=$(free_port)
    as_server "$pg/pg_ctl" -D "$cluster" -w -l "$work/pg/log" -o "-p $PGPORT -k $work/pg -c listen_addresses= -c shared_buffers=512MB -c max_wal_size=8GB -c autovacuum=off" start > /dev/null
    export PGHOST=$work/pg PGPORT PGUSER=postgres
}

# Makes the database `bench`. SHAPE=several (default): 2.5 GB at SCALE=100 (percent) in eight tables, the largest 1.4 GB with its indexes,
# two of 400 MB, fifteen indexes, two foreign keys. SHAPE=one: one table of ROWS rows, as in earlier results.
make_database() {
    psql -qXc 'CREATE DATABASE bench'
    if [ "${SHAPE:-several}" = one ]; then
        psql -qX -v ON_ERROR_STOP=1 bench -c "CREATE TABLE event AS SELECT g AS id, md5(g::text) AS name, now() + g * interval '1 s' AS at, g * 1.1 AS amount, 'text ' || md5((g % 5000)::text) || ' of row ' || g AS note FROM generate_series(1, ${ROWS:-9000000}) g;
            ALTER TABLE event ADD PRIMARY KEY (id); CREATE INDEX ON event (name); CREATE INDEX ON event (at); CREATE INDEX ON event (amount)"
    else
        psql -qX -v ON_ERROR_STOP=1 -v scale="${SCALE:-100}" -f "$here/database.sql" bench > /dev/null
    fi
    psql -qX bench -c 'VACUUM ANALYZE' -c CHECKPOINT
    psql -XAt bench -c "SELECT 'database: ' || pg_size_pretty(pg_database_size('bench')) || ', ' || count(*) FILTER (WHERE relkind = 'r') || ' tables, ' || count(*) FILTER (WHERE relkind = 'i') || ' indexes' FROM pg_class WHERE relnamespace = 'public'::regnamespace"
}

# A real S3 server with one bucket. Without compression of its own: what it gets is sealed and does not compress.
# `server_by` is what starts it, so that it can have a processor of its own.
server_by=()
start_garage() {
    need garage
    local at=$work/garage rpc api admin
    rpc=$(free_port) api=$(free_port) admin=$(free_port)
    mkdir -p "$at"
    cat > "$at/garage.toml" << TOML
metadata_dir = "$at/meta"
data_dir = "$at/data"
db_engine = "${GARAGE_DB:-lmdb}"
replication_factor = 1
compression_level = "none"
rpc_bind_addr = "127.0.0.1:$rpc"
rpc_public_addr = "127.0.0.1:$rpc"
rpc_secret = "$(printf '5c%.0s' {1..32})"
[s3_api]
s3_region = "garage"
api_bind_addr = "127.0.0.1:$api"
[admin]
api_bind_addr = "127.0.0.1:$admin"
TOML
    s3_bucket=bench s3_endpoint=http://127.0.0.1:$api
    AWS_ACCESS_KEY_ID=GK$(printf '31%.0s' {1..12})
    AWS_SECRET_ACCESS_KEY=$(printf '7d%.0s' {1..32})
    export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_DEFAULT_REGION=garage AWS_REGION=garage AWS_EC2_METADATA_DISABLED=true
    GARAGE_DEFAULT_ACCESS_KEY=$AWS_ACCESS_KEY_ID GARAGE_DEFAULT_SECRET_KEY=$AWS_SECRET_ACCESS_KEY GARAGE_DEFAULT_BUCKET=$s3_bucket \
        "${server_by[@]}" garage -c "$at/garage.toml" server --single-node --default-bucket > "$at/log" 2>&1 &
    garage_pid=$!
    local answer
    for _ in $(seq 300); do
        kill -0 "$garage_pid" 2> /dev/null || { tail -5 "$at/log" >&2 && die 'garage ended early'; }
        answer=$( (exec 3<> "/dev/tcp/127.0.0.1/$admin" && printf 'GET /health HTTP/1.0\r\n\r\n' >&3 && head -1 <&3) 2> /dev/null || true)
        [[ $answer != *200* ]] || return 0
        sleep 0.2
    done
    die 'garage is not ready after a minute'
}
stop_garage() {
    kill "$garage_pid"
    wait "$garage_pid" 2> /dev/null || true
    garage_pid=''
    rm -rf "$work/garage"
}
