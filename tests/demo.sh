#!/usr/bin/env bash
# The demonstration behind `make demo`: a real PostgreSQL cluster and a tree of files are backed up, changed,
# backed up again, destroyed, restored, and proven equal. Everything happens in a temporary directory, which is removed.
set -euo pipefail
program=$(realpath "${1:-target/release/backstay}")
world=$(mktemp -d /tmp/backstay-demo.XXXXXX)
pg=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)
port=$((20000 + RANDOM % 20000))

# A server does not run as root; the package brought a user for it.
as_server() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }
finish() {
    local code=$?
    as_server "$pg/pg_ctl" -D "$world/pg/data" -m immediate stop > /dev/null 2>&1 || true
    rm -rf "$world"
    [ $code = 0 ] || echo "demo: FAILED with exit code $code" >&2
    exit $code
}
trap finish EXIT
bold=$(tput bold 2> /dev/null || true) plain=$(tput sgr0 2> /dev/null || true)
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
show() { printf '  $ backstay %s\n' "$*" && "$program" "$@" 2> "$world/err" | sed 's/^/    /' || { cat "$world/err" >&2; return 1; }; }
sql() { PGPASSWORD=demo psql -XAtq -v ON_ERROR_STOP=1 -h "$world/pg" -p "$port" -U postgres -d "$1" -c "$2"; }
# Row counts and checksums of every table, of the large objects, the sequence and the view.
fingerprint() {
    for t in customers orders events notes_2025 notes_2026 totals; do
        sql erp "SELECT '$t', count(*), md5(string_agg(md5(x::text), '' ORDER BY md5(x::text))) FROM $t x"
    done
    sql erp "SELECT 'large objects', count(*), md5(string_agg(md5(lo_get(oid)), '' ORDER BY oid)) FROM pg_largeobject_metadata"
    sql erp "SELECT 'next order', last_value FROM orders_id_seq"
}
tree() { (cd "$world/app" && find . -type f -print0 | sort -z | xargs -0 sha256sum && find . -printf '%p %m %u %T@ %l\n' | grep -v '^\. ' | sort) | sha256sum; }

say "1. A PostgreSQL cluster with a shop's database and an application's directory"
mkdir -p "$world/pg" "$world/app"
if [ "$(id -u)" = 0 ]; then chown postgres "$world/pg" && chmod 755 "$world"; fi
echo demo > "$world/pg/password"
as_server "$pg/initdb" -D "$world/pg/data" -U postgres --pwfile="$world/pg/password" -A scram-sha-256 -E UTF8 --locale=C.UTF-8 --no-sync > /dev/null
as_server "$pg/pg_ctl" -D "$world/pg/data" -w -l "$world/pg/log" -o "-p $port -k $world/pg -c listen_addresses= -c fsync=off -c max_wal_size=4GB" start > /dev/null
sql postgres "CREATE DATABASE erp"
sql erp "
    CREATE TABLE customers (id serial PRIMARY KEY, name text NOT NULL, email text UNIQUE, joined timestamptz);
    INSERT INTO customers (name, email, joined) SELECT 'Customer ' || g, 'c' || g || '@example.org', timestamptz '2024-01-01' + g * interval '7 min' FROM generate_series(1, 60000) g;
    CREATE TABLE orders (id bigserial PRIMARY KEY, customer int REFERENCES customers, placed timestamptz, total numeric(12,2), note text);
    INSERT INTO orders (customer, placed, total, note) SELECT 1 + g % 60000, timestamptz '2025-01-01' + g * interval '90 s', (g::bigint * 7919 % 100000) / 100.0, md5(g::text) || ' ' || md5((g * 31)::text) FROM generate_series(1, 700000) g;
    CREATE INDEX ON orders (customer); CREATE INDEX ON orders (placed);
    CREATE TABLE events (at timestamptz, kind text, payload jsonb);
    INSERT INTO events SELECT timestamptz '2026-01-01' + g * interval '1 s', (ARRAY['login','view','buy'])[1 + g % 3], jsonb_build_object('session', md5((g / 9)::text), 'n', g) FROM generate_series(1, 600000) g;
    CREATE TABLE notes (day date NOT NULL, body text) PARTITION BY RANGE (day);
    CREATE TABLE notes_2025 PARTITION OF notes FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
    CREATE TABLE notes_2026 PARTITION OF notes FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
    INSERT INTO notes SELECT date '2025-01-01' + g % 700, repeat(md5(g::text), 8) FROM generate_series(1, 80000) g;
    CREATE MATERIALIZED VIEW totals AS SELECT customer, sum(total) AS sum FROM orders GROUP BY customer;
    SELECT count(lo_from_bytea(0, decode(repeat(md5(g::text), 4000), 'hex'))) FROM generate_series(1, 40) g;
" > /dev/null
mkdir -p "$world/app/uploads" "$world/app/conf"
for i in $(seq 1 400); do head -c $((20000 + i * 100)) /dev/urandom > "$world/app/uploads/$i.jpg"; done
cp -r /usr/share/perl/5*/unicore "$world/app/lib" 2> /dev/null || cp -r /usr/share/doc "$world/app/lib"
printf 'listen 8080\nworkers 4\n' > "$world/app/conf/app.conf"
# Small enough for a laptop, and large enough to be cut into many packs.
bytes=$(sql postgres "SELECT pg_database_size('erp')")
[ "$bytes" -ge 200000000 ] || { echo "demo: the database has $bytes bytes only, and README.md says 200 MB" >&2; exit 1; }
echo "    database: $((bytes / 1000000)) MB, files: $(du -sh "$world/app" | cut -f1) in $(find "$world/app" -type f | wc -l) files"

cat > "$world/backstay.toml" << TOML
host = "demo"
state_dir = "$world/state"

[repository]
url = "file://$world/repository"

[keys]
identity_file = "$world/host.key"

[sources.erpdb]
kind = "postgres"
url = "postgresql://postgres@/erp?host=$world/pg&port=$port"
password_file = "$world/pg/password"

[sources.app]
kind = "files"
paths = ["$world/app"]

[plans.shop]
sources = ["erpdb", "app"]
keep = { last = 3, daily = 7, weekly = 4, monthly = 12 }
TOML
export BACKSTAY_CONFIG=$world/backstay.toml

say "2. Make the vault: one identity for the host, one for the safe"
show init --recovery-out "$world/recovery.key" | head -4
sleep 2.1 # files that were written this very moment would be read again next time

say "3. The first backup ships everything, encrypted"
show backup shop

say "4. A day later: some orders, a changed setting, a new picture"
sql erp "INSERT INTO orders (customer, placed, total, note) SELECT g, now(), 10, 'new' FROM generate_series(1, 500) g; UPDATE customers SET name = 'Renamed' WHERE id = 42; REFRESH MATERIALIZED VIEW totals"
echo 'workers 8' >> "$world/app/conf/app.conf" && head -c 50000 /dev/urandom > "$world/app/uploads/new.jpg"
show backup shop
fingerprint > "$world/before" && tree > "$world/tree-before"
show list

say "5. The bad day: the database is dropped, the uploads are deleted, the settings are overwritten"
sql postgres "DROP DATABASE erp"
rm -rf "$world/app/uploads" && echo garbage > "$world/app/conf/app.conf"

say "6. One command brings it back; what was in the way is kept beside it"
show restore latest --plan shop --yes

say "7. Proof: row counts and checksums of every table, large object and file"
fingerprint > "$world/after" && tree > "$world/tree-after"
diff "$world/before" "$world/after"
diff "$world/tree-before" "$world/tree-after"
sed 's/^/    equal: /' "$world/after"
echo "    equal: $(find "$world/app" -type f | wc -l) files with owners, modes and times"

say "8. The key for the safe works, and so does everything in the repository"
show --identity "$world/recovery.key" key check
show check --read-data
say "What happened: two backups went to a directory, the second shipped only what had changed. The database was
dropped and files were destroyed; one restore loaded the database anew, held it against the row counts taken
during the backup, and exchanged the directory. All of it took $SECONDS s.
The server is stopped now, and $world is removed. What \`make demo\` built (target/) and the Debian packages that it
installed for that (PostgreSQL, a compiler, headers) stay."
