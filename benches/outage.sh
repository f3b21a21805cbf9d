#!/usr/bin/env bash
# How long an application stands still while its live database is restored: a client writes every 50 ms, each time over
# a connection of its own, and notes when it succeeded. The longest pause between two successes is the outage.
#
#   benches/outage.sh PROGRAM
#
# RESTORE='…'  what restores the live database (default: PROGRAM restore latest --plan p --yes)
# BACK='…'     if given, run and measured after it: the way back (for example: PROGRAM rollback --plan p --yes)
# SCALE, SHAPE, ROWS, WORK as for run.sh;  GOAL=S  fail above so many seconds (default 3)
set -euo pipefail
[ $# -gt 0 ] || { sed -n '2,/^set/{/^#/p}' "$0" >&2 && exit 2; }
program=$(realpath "$1") restic='' rustic=''
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
need psql
restore=${RESTORE:-"'$program' -q restore latest --plan p --yes"}

start_cluster
size=$(make_database)
say "$size"
psql -qX bench -c 'CREATE TABLE heartbeat (n bigint, at timestamptz DEFAULT clock_timestamp())' -c CHECKPOINT
configure "kind = \"postgres\"
url = \"postgresql://postgres@/bench?host=$work/pg&port=$PGPORT\""
"$program" -q backup > /dev/null

# Writes until told to stop: one line per try, "START END ok" or "START END failed WHY".
client() {
    local n=0 begun next why
    next=$(date +%s%N)
    while [ ! -e "$work/stop" ]; do
        n=$((n + 1)) begun=$EPOCHREALTIME
        if why=$(PGCONNECT_TIMEOUT=5 psql -qX -v ON_ERROR_STOP=1 bench -c "INSERT INTO heartbeat VALUES ($n)" 2>&1); then
            echo "$begun $EPOCHREALTIME ok"
        else
            echo "$begun $EPOCHREALTIME failed $(tr '\n' ' ' <<< "$why" | cut -c1-120)"
        fi
        next=$((next + 50000000))
        local rest=$((next - $(date +%s%N)))
        # Behind its time it does not catch up by a burst.
        if [ $rest -gt 0 ]; then sleep "$(printf '0.%09d' $rest)"; else next=$(date +%s%N); fi
    done
}
# The longest pauses between successes from FROM on, as "PAUSE AT" with AT in seconds after FROM.
pauses() { # FROM TO
    awk -v from="$1" -v to="$2" '$3 == "ok" && $2 >= from - 1 && $1 <= to + 3 { if (last) printf "%.3f %.1f\n", $2 - last, last - from; last = $2 }' "$work/beats" | sort -rn
}
observed() { # WORDS COMMAND
    local from to longest
    rm -f "$work/stop" && : > "$work/beats"
    client > "$work/beats" &
    local pid=$!
    sleep 3
    from=$EPOCHREALTIME
    bash -c "$2" > "$work/out" 2>&1 || { tail -5 "$work/out" >&2; touch "$work/stop"; wait "$pid"; die "failed: $2"; }
    to=$EPOCHREALTIME
    sleep 3
    touch "$work/stop" && wait "$pid"
    longest=$(pauses "$from" "$to" | awk 'NR == 1 { print $1 }')
    printf '\n%s took %s s. Longest pauses between two writes: %s.\n' "$1" "$(awk -v a="$from" -v b="$to" 'BEGIN { printf "%.1f", b - a }')" \
        "$(pauses "$from" "$to" | awk 'NR <= 3 { printf "%s%s s at %s s", (NR > 1 ? ", " : ""), $1, $2 }')"
    printf 'Tries: %s, failed: %s. What the client was told:\n\n' "$(wc -l < "$work/beats")" "$(grep -c ' failed ' "$work/beats" || true)"
    awk '$3 == "failed" { $1 = $2 = $3 = ""; print }' "$work/beats" | sort | uniq -c | sort -rn | head -5 | sed 's/^/    /'
    awk -v l="$longest" -v g="${GOAL:-3}" 'BEGIN { exit !(l <= g) }' || missed=1
}
missed=0
machine 'Outage'
printf '\n%s. A client writes every 50 ms over a new connection.\n' "$size"
observed 'Nothing at all, for comparison, ' 'sleep 10'
missed=0
observed 'The restore' "$restore"
[ -z "${BACK:-}" ] || observed 'The way back' "$BACK"
[ "$missed" = 0 ] || die "a pause was longer than the goal of ${GOAL:-3} s"
