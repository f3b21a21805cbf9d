#!/usr/bin/env bash
# For how long clients have to wait while everything of an application is restored: clients read and write all the time,
# over nginx, on a machine of its own with systemd, PostgreSQL and a directory. Prints Markdown; fails above the goal.
#
#   benches/flow.sh
#
# DATABASE=MIB FILES=MIB  sizes (default 2048 each)    GOAL=S  seconds beyond the application's own stop and start (default 5)
# PROFILE=…  of cargo (default release)    WORK=DIR  where the machine has its disk (default /var/tmp; four times the sizes are needed)
set -euo pipefail
cd "$(dirname "$0")/.."
result=$(mktemp)
trap 'rm -f "$result"' EXIT
export TMPDIR=${WORK:-/var/tmp} FLOW_MARKDOWN=$result FLOW_GOAL=${GOAL:-5}
export FLOW_DATABASE_MIB=${DATABASE:-2048} FLOW_FILES_MIB=${FILES:-2048}
status=0
cargo test --locked --profile "${PROFILE:-release}" --test flow -- --exact --nocapture \
    load::clients_that_read_and_write_meanwhile_lose_nothing_that_was_accepted_after_the_stop >&2 || status=$?
cat "$result"
exit "$status"
