#!/usr/bin/env bash
# Side by side with what a user would pick instead: the same work by each tool, in turns, on this machine, in one run.
# Prints Markdown for docs/performance.md on standard output, and what it is doing on standard error.
#
#   benches/run.sh PROGRAM [WORKLOAD...]       WORKLOAD: tree database s3-tree s3-database all (default)
#                                              or tree-restore, s3-tree-restore: the restores of a tree alone
#
# TREE=DIR     the tree to copy (default /usr)        SCALE=PERCENT   of the 2.5 GB database (default 100)
# RUNS=N       runs per figure (default 3)            SHAPE=one       one table of ROWS rows instead of eight tables
# WORK=DIR     where to work (default /var/tmp)       TOOLS="a b c"   only these (backstay restic rustic pipe ...)
# RESTIC=PATH  restic (Debian 12 has 0.14)            RUSTIC=PATH     rustic; RUSTIC= leaves it out
#
# What trees are restored to is removed at the end only, so restores need (RUNS x tools + 3) times the room of the tree.
# s3-*: the same to garage on the loopback interface; it shares the processors with whoever talks to it. With APART=1 it has
# the last one to itself and the tools have the others, as where the server is another machine.
set -euo pipefail
[ $# -gt 0 ] || { sed -n '2,/^set/{/^#/p}' "$0" >&2 && exit 2; }
program=$(realpath "$1") && shift
[ -x "$program" ] || { echo "$program is not a program" >&2 && exit 2; }
restic=${RESTIC:-restic}
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"
rustic=${RUSTIC-$(command -v rustic || true)}
need "$restic" age zstd /usr/bin/time
export RESTIC_PASSWORD=bench RUSTIC_PASSWORD=bench RESTIC_CACHE_DIR=$work/restic-cache RUSTIC_CACHE_DIR=$work/rustic-cache
# rustic reads ~/.config/rustic/rustic.toml and ./rustic.toml unless a profile is named; an absolute path is one.
: > "$work/rustic.toml"
export RUSTIC_USE_PROFILE=$work/rustic.toml RUSTIC_NO_PROGRESS=true
# Of the user's own, nothing may reach a tool: neither a place nor a key.
unset RESTIC_REPOSITORY RUSTIC_REPOSITORY "${!OPENDAL_@}" "${!RCLONE_@}" AWS_PROFILE AWS_SESSION_TOKEN AWS_CA_BUNDLE

# Of these tools the ones that are there, and asked for by TOOLS.
only() {
    local t
    for t in "$@"; do
        case $t in
            rustic) [ -n "$rustic" ] || continue ;;
            pipe-rclone) command -v rclone > /dev/null || continue ;;
        esac
        if [ -z "${TOOLS:-}" ] || [[ " $TOOLS " = *" $t "* ]]; then echo "$t"; fi
    done
}

# --- Where backups go: fresh repositories for every tool and run ---

fresh() { # file|s3 RUN SOURCE-LINES
    rm -rf "$work"/{restic,rustic,restic-cache,rustic-cache,pipe,tmp}
    mkdir -p "$work/rustic-cache"
    local url extra=''
    if [ "$1" = s3 ]; then
        url=s3://$s3_bucket/$2/own
        extra=$(printf 'endpoint = "%s"\nregion = "garage"\npath_style = true' "$s3_endpoint")
        restic_at=s3:$s3_endpoint/$s3_bucket/$2/restic
        rustic_at=opendal:s3
        export OPENDAL_ENDPOINT=$s3_endpoint OPENDAL_REGION=garage OPENDAL_BUCKET=$s3_bucket OPENDAL_ROOT=/$2/rustic
        # They are in the environment already, and opendal may look for a configuration of the user's otherwise.
        export OPENDAL_ACCESS_KEY_ID=$AWS_ACCESS_KEY_ID OPENDAL_SECRET_ACCESS_KEY=$AWS_SECRET_ACCESS_KEY OPENDAL_DISABLE_CONFIG_LOAD=true
        export RCLONE_CONFIG=/dev/null RCLONE_S3_PROVIDER=Other RCLONE_S3_ENDPOINT=$s3_endpoint RCLONE_S3_REGION=garage RCLONE_S3_ACCESS_KEY_ID=$AWS_ACCESS_KEY_ID RCLONE_S3_SECRET_ACCESS_KEY=$AWS_SECRET_ACCESS_KEY
        pipe_at=:s3:$s3_bucket/$2/pipe
    else
        unset "${!OPENDAL_@}"
        url=file://$work/own restic_at=$work/restic rustic_at=$work/rustic
    fi
    configure "$3" "$url" "$extra"
    "$restic" -q init -r "$restic_at" > /dev/null
    [ -z "$rustic" ] || "$rustic" -r "$rustic_at" init > "$work/out" 2>&1 || { cat "$work/out" >&2 && die 'rustic init failed'; }
}
note_stored() { # for directories only: garage keeps all tools' blocks in one place
    local tool
    for tool in own:backstay restic:restic rustic:rustic pipe:pipe; do
        [ ! -e "$work/${tool%%:*}" ] || remember "$1" "${tool##*:}" "$(du -sm "$work/${tool%%:*}" | cut -f1)"
    done
}

# --- A tree ---

tree_backup() { # TOOL LABEL
    case $1 in
        backstay) measure "$2" backstay "$program" -q backup ;;
        restic) measure "$2" restic "$restic" -q backup -r "$restic_at" "$data" ;;
        rustic) measure "$2" rustic "$rustic" -r "$rustic_at" backup "$data" ;;
    esac
}
tree_restore() { # TOOL LABEL [DIRECTORY]
    local to=${3:-$work/back/$run}/$1 command
    case $1 in
        cp) command="cp -a '$data' '$to'" ;;
        backstay) command="'$program' -q restore --to '$to'" ;;
        restic) command="'$restic' -q restore latest -r '$restic_at' --target '$to'" ;;
        rustic) command="'$rustic' -r '$rustic_at' restore latest '$to'" ;;
    esac
    measure "$2" "$1" bash -c "$command && sync -f '$to'"
    # A tool that left something out would look fast. (Sockets were removed; each tool makes the parents its own way.)
    local there
    there=$(find "$to" -type f | wc -l)
    [ "$there" = "$files" ] || die "$1 restored $there files of $files"
}
tree_to_memory() { # TOOL LABEL
    local memory=/dev/shm/backstay-bench.$$
    mkdir -p "$memory" && tree_restore "$1" "$2" "$memory"
    rm -rf "$memory"
}
turn() { # RUN FUNCTION LABEL TOOL...: the tools of this run in their order
    local run=$1 f=$2 label=$3 tool && shift 3
    for tool in $(rotated "$run" "$@"); do "$f" "$tool" "$label"; done
}
# Appends a byte to every hundredth file: the first ones of the tree, or all over it.
touch_files() { # place|scattered
    local condition='NR % 100 == 1'
    [ "$1" = scattered ] || condition="NR <= $files / 100"
    find "$data" -type f -size +0 | LC_ALL=C sort | awk "$condition" | while read -r f; do echo x >> "$f"; done
}
copy_tree() { # sets data and files
    data=$work/data
    say "copying ${TREE:-/usr}"
    cp -a "${TREE:-/usr}" "$data"
    find "$data" -type s -delete
    files=$(find "$data" -type f | wc -l)
}
# What is restored stays until the end: who finds out after ten minutes that there is no room has measured nothing.
room_for() { # TOOL...
    local free wanted
    free=$(df -m --output=avail "$work" | tail -1)
    wanted=$(((runs * $# + 2) * $(du -sm "$data" | cut -f1)))
    [ "$free" -ge "$wanted" ] || die "$work has $free MiB free and needs $wanted. Give WORK, a smaller TREE, or fewer RUNS or TOOLS"
}
tree() { # file|s3
    copy_tree
    local all restorers run where=$1 p=''
    [ "$where" = file ] || p=s3-
    mapfile -t all < <(only backstay restic rustic)
    mapfile -t restorers < <(only backstay restic rustic cp)
    room_for "${restorers[@]}"
    local shape
    shape="a copy of ${TREE:-/usr}, $(find "$data" | wc -l) entries, $files files, $(du -sm "$data" | cut -f1) MiB"
    for run in $(seq "$runs"); do
        [ "$where" = file ] || start_garage
        fresh "$where" "$run" "kind = \"files\"
paths = [\"$data\"]"
        # A file that changed less than two seconds before it is read is read again by the next run.
        sleep 2.2
        turn "$run" tree_backup "${p}first" "${all[@]}"
        [ "$where" = s3 ] || note_stored 'Stored after the first backup of the tree'
        [ "$where" = s3 ] || measure unchanged find-stat find "$data" -printf '%s %T@ %C@\n'
        turn "$run" tree_backup "${p}unchanged" "${all[@]}"
        touch_files place && sleep 2.2
        turn "$run" tree_backup "${p}1%-in-one-place" "${all[@]}"
        touch_files scattered && sleep 2.2
        turn "$run" tree_backup "${p}1%-scattered" "${all[@]}"
        sync
        # ext4 searches past every inode that was freed in the last minutes, which costs whoever restores then up to ten
        # times the kernel's time. Who restores has a new disk or moved the old tree away: nothing is removed in between.
        mkdir -p "$work/back/$run"
        turn "$run" tree_restore "${p}restore" "${restorers[@]}"
        # Without the disk, which is what all of them wait for: what the tools themselves take.
        turn "$run" tree_to_memory "${p}restore-to-memory" "${restorers[@]}"
        [ "$where" = file ] || stop_garage
    done
    rm -rf "$data" "$work/back"
    printf '\n### %s: %s\n' "$([ "$where" = file ] && echo 'A tree to a directory' || echo 'A tree to an S3 server')" "$shape"
    table no-disk "$p"{first,unchanged,1%-in-one-place,1%-scattered,restore,restore-to-memory}
    [ "$where" = s3 ] || stored 'Stored after the first backup of the tree'
}

tree_restores() { # file|s3: one backup by each tool, and restores of it
    copy_tree
    local where=$1 p=''
    [ "$where" = file ] || { p=s3- && start_garage; }
    local all run
    mapfile -t all < <(only backstay restic rustic cp)
    room_for "${all[@]}"
    fresh "$where" 1 "kind = \"files\"
paths = [\"$data\"]"
    for tool in "${all[@]}"; do [ "$tool" = cp ] || tree_backup "$tool" "${p}first"; done
    for run in $(seq "$runs"); do
        mkdir -p "$work/back/$run" && sync -f "$work" && sleep 5
        turn "$run" tree_restore "${p}restore" "${all[@]}"
    done
    [ "$where" = file ] || stop_garage
    printf '\n### Restores of a tree from %s: a copy of %s, %s entries, %s files, %s MiB\n' \
        "$([ "$where" = file ] && echo 'a directory' || echo 'an S3 server')" "${TREE:-/usr}" "$(find "$data" | wc -l)" "$files" "$(du -sm "$data" | cut -f1)"
    table no-disk "${p}restore"
    rm -rf "$data" "$work/back"
}

# --- A database ---

# pg_dump writes for the others; what they store is the same archive that Backstay stores.
# With a snapshot before it, rustic 0.11 takes standard input for an unchanged file and does not read it; hence --force.
database_backup() { # TOOL LABEL
    local tmp=$work/tmp/$1 dump="set -o pipefail; pg_dump -Fc -Z0 bench |"
    case $1 in
        backstay) measure "$2" backstay "$program" -q backup ;;
        restic) measure "$2" restic bash -c "$dump '$restic' -q backup -r '$restic_at' --stdin --stdin-filename dump" ;;
        rustic) measure "$2" rustic bash -c "$dump '$rustic' -r '$rustic_at' backup --force --stdin-filename dump -" ;;
        pipe) measure "$2" pipe bash -c "$dump zstd -3 -q | age -r $age_to > '$work/pipe' && sync '$work/pipe'" ;;
        pipe-rclone) measure "$2" pipe-rclone bash -c "$dump zstd -3 -q | age -r $age_to | rclone rcat '$pipe_at'" ;;
        custom) measure "$2" custom bash -c "pg_dump -Fc bench > '$tmp/dump' && sync '$tmp/dump'" ;;
        directory) rm -rf "$tmp/dump" && measure "$2" directory bash -c "pg_dump -Fd -j2 -f '$tmp/dump' bench && sync -f '$tmp'" ;;
        directory-Z0) rm -rf "$tmp/dump" && measure "$2" directory-Z0 bash -c "pg_dump -Fd -Z0 -j2 -f '$tmp/dump' bench && sync -f '$tmp'" ;;
    esac
}
# Backstay makes the database itself, analyses it and syncs the cluster; the others get the same done.
database_load() { # TOOL LABEL
    local tmp=$work/tmp/$1 load='pg_restore -d copy --exit-on-error' command
    case $1 in
        backstay) command="'$program' -q restore --to copy" ;;
        restic) command="'$restic' -q dump -r '$restic_at' latest dump | $load" ;;
        rustic) command="'$rustic' -r '$rustic_at' dump latest:dump | $load" ;;
        pipe) command="age -d -i '$work/age.key' '$work/pipe' | zstd -dcq | $load" ;;
        pipe-rclone) command="rclone cat '$pipe_at' | age -d -i '$work/age.key' | zstd -dcq | $load" ;;
        custom) command="$load '$tmp/dump'" ;;
        directory | directory-Z0) command="$load -j2 '$tmp/dump'" ;;
        copy-without-backup) command="pg_dump -Fc -Z0 bench | $load" ;;
    esac
    [ "$1" = backstay ] || command="createdb -T template0 copy && $command && psql -qX -c ANALYZE -c CHECKPOINT copy"
    measure "$2" "$1" bash -c "set -o pipefail; $command && sync -f '$work/pg'"
    local rows
    rows=$(psql -XAtc 'SELECT count(*) FROM event' copy)
    [ "$rows" = "$events" ] || die "$1 loaded $rows events of $events"
    # None of it is left for the next tool to write out.
    psql -qX -c 'DROP DATABASE copy' -c CHECKPOINT postgres && sync -f "$work/pg"
}
database() { # file|s3
    start_cluster
    local all dedup loads size run where=$1 p=''
    [ "$where" = file ] || p=s3-
    size=$(make_database)
    say "$size"
    events=$(psql -XAtc 'SELECT count(*) FROM event' bench)
    # It refuses to write over an existing file, and this may be the second workload.
    rm -f "$work/age.key" && age-keygen -o "$work/age.key" 2> /dev/null
    age_to=$(age-keygen -y "$work/age.key")
    mapfile -t dedup < <(only backstay restic rustic)
    if [ "$where" = file ]; then
        mapfile -t all < <(only backstay restic rustic pipe custom directory directory-Z0)
        mapfile -t loads < <(only backstay restic rustic pipe custom directory directory-Z0 copy-without-backup)
    else
        mapfile -t all < <(only backstay restic rustic pipe-rclone)
        loads=("${all[@]}")
    fi
    for run in $(seq "$runs"); do
        [ "$where" = file ] || start_garage
        fresh "$where" "$run" "kind = \"postgres\"
url = \"postgresql://postgres@/bench?host=$work/pg&port=$PGPORT\""
        turn "$run" database_backup "${p}dump" "${all[@]}"
        [ "$where" = s3 ] || note_stored 'Stored after the first dump'
        turn "$run" database_backup "${p}dump-unchanged" "${dedup[@]}"
        psql -qX bench -c "UPDATE event SET note = 'changed in run $run' WHERE id <= $events / 100" -c CHECKPOINT
        turn "$run" database_backup "${p}dump-1%-in-one-place" "${dedup[@]}"
        psql -qX bench -c "UPDATE event SET note = 'scattered in run $run' WHERE id % 100 = $run" -c CHECKPOINT
        turn "$run" database_backup "${p}dump-1%-scattered" "${dedup[@]}"
        turn "$run" database_load "${p}load" "${loads[@]}"
        # Else each run would find a larger table than the one before.
        psql -qX bench -c 'VACUUM FULL event' -c 'ANALYZE event' -c CHECKPOINT
        [ "$where" = file ] || stop_garage
    done
    as_server "$pg/pg_ctl" -D "$cluster" -m fast stop > /dev/null
    cluster='' && rm -rf "$work/pg"
    printf '\n### %s: %s\n' "$([ "$where" = file ] && echo 'A database to a directory' || echo 'A database to an S3 server')" "${size#database: }"
    table with-disk "$p"{dump,dump-unchanged,dump-1%-in-one-place,dump-1%-scattered,load}
    [ "$where" = s3 ] || stored 'Stored after the first dump'
    printf '\nEach load ends with ANALYZE, CHECKPOINT and sync. custom, directory and directory-Z0 (pg_dump -Fc, -Fd -j2 and -Fd -Z0 -j2; pg_restore, with -j2 for directories) encrypt nothing and keep the dump as temporary disk. copy without backup is pg_dump into pg_restore.\n'
}

if [ -n "${APART:-}" ]; then
    last=$(($(nproc --all) - 1))
    [ "$last" -gt 0 ] || die 'APART needs two processors'
    server_by=(taskset -c "$last")
    taskset -cp "0-$((last - 1))" $$ > /dev/null
fi
machine 'Results'
[ -z "${APART:-}" ] || printf 'The server has a processor of its own, and the tools %s.\n' "$(nproc)"
methods
[ $# -gt 0 ] || set -- all
for workload in "$@"; do
    : > "$results"
    rm -f "$work/stored"
    case $workload in
        tree) tree file ;;
        tree-restore) tree_restores file ;;
        s3-tree-restore) tree_restores s3 ;;
        database) database file ;;
        s3-tree) tree s3 ;;
        s3-database) database s3 ;;
        all) for w in tree database s3-tree s3-database; do
            : > "$results"
            rm -f "$work/stored"
            case $w in s3-*) "${w#s3-}" s3 ;; *) "$w" file ;; esac
        done ;;
        *) die "unknown workload $workload" ;;
    esac
done
