#!/usr/bin/env bash
# Where the time goes: the symbols in which a command spends its CPU time, over all its threads and children.
#
#   benches/profile.sh PROGRAM tree|database [first|unchanged|restore]     (default: all three)
#
# TREE=DIR, SCALE=PERCENT, SHAPE, WORK: as for run.sh    TOP=N  symbols (default 25)    INLINE=1  with inlined functions
#
# The release build has symbols but no lines; for those: cargo build --profile bench-symbols, and
# target/bench-symbols/backstay as PROGRAM. Without perf, or where the kernel does not allow it, strace counts system
# calls instead.
set -euo pipefail
[ $# -gt 1 ] || { sed -n '2,/^set/{/^#/p}' "$0" >&2 && exit 2; }
program=$(realpath "$1") what=$2 only=${3:-}
restic='' rustic=''
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
readelf -S "$program" 2> /dev/null | grep -q '\.symtab' || say "$program has no symbols; build it with --profile bench-symbols"

# The processor's own counters are often missing in virtual machines; the clock is always there.
profiler=strace
if command -v perf > /dev/null && perf record -q -e cpu-clock -o "$work/try" true > /dev/null 2>&1; then profiler=perf; fi
need "$profiler"

profiled() { # LABEL COMMAND...
    local label=$1 && shift
    printf '\n### %s\n\n```text\n' "$label"
    case $profiler in
        perf)
            /usr/bin/time -f '%e s wall, %U s user, %S s system, %M KiB' -o "$work/time" \
                perf record -q -e cpu-clock -F 997 -o "$work/perf" ${INLINE:+--call-graph=dwarf,16384} "$@" > /dev/null 2> "$work/err" || { cat "$work/err" >&2 && exit 1; }
            tail -1 "$work/time"
            # By program first: pg_dump and its like are others.
            printf '\nby program and by object:\n'
            perf report -i "$work/perf" --stdio --no-children -g none --percent-limit 1 --sort comm,dso 2> /dev/null | grep -v '^#' | grep -v '^$' | head -12 | sed 's/ *$//' || true
            printf '\nby symbol:\n'
            perf report -i "$work/perf" --stdio --no-children -g none --sort dso,symbol ${INLINE:+--inline} 2> /dev/null | grep -v '^#' | grep -v '^$' | head -"${TOP:-25}" | sed 's/ *-* *$//' || true
            ;;
        strace)
            strace -c -f -S time -o "$work/strace" "$@" > /dev/null 2>&1
            head -"$((${TOP:-25} + 2))" "$work/strace"
            ;;
    esac
    printf '```\n'
}
wanted() { [ -z "$only" ] || [ "$only" = "$1" ]; }
case $what in
    tree)
        data=$work/data
        say "copying ${TREE:-/usr}"
        cp -a "${TREE:-/usr}" "$data" && find "$data" -type s -delete && sync && sleep 2.2
        configure "kind = \"files\"
paths = [\"$data\"]"
        to=$work/back
        ;;
    database)
        start_cluster
        make_database >&2
        configure "kind = \"postgres\"
url = \"postgresql://postgres@/bench?host=$work/pg&port=$PGPORT\""
        to=copy
        ;;
    *) die "unknown workload $what" ;;
esac
if wanted first; then profiled "$what, first backup" "$program" -q backup; else "$program" -q backup > /dev/null; fi
if wanted unchanged; then profiled "$what, backup, nothing changed" "$program" -q backup; fi
if wanted restore; then profiled "$what, restore" "$program" -q restore --to "$to"; fi
