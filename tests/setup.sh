#!/usr/bin/env bash
# Installs what a task needs and is not there yet: Debian packages, Python packages, and programs built from their
# published crates into ~/.cache/backstay-tools. Run again, it finds everything and does nothing.
#
#   setup.sh demo    what `make demo` needs
#   setup.sh test    what `make test` needs
#   setup.sh bench   what `make bench` needs
#   setup.sh build   what `make deb`, `make tarball` and `make static` need, on Debian
#   setup.sh package what `make deb-check` needs
#   setup.sh deny    cargo-deny
set -euo pipefail
tools=$HOME/.cache/backstay-tools
sudo=$([ "$(id -u)" = 0 ] || echo sudo)

have() { command -v "$1" > /dev/null; }
packages() {
    local missing=()
    for p in "$@"; do
        dpkg-query -W -f '${Status}' "$p" 2> /dev/null | grep -q 'ok installed' || missing+=("$p")
    done
    [ ${#missing[@]} = 0 ] && return
    echo "installing ${missing[*]}"
    $sudo apt-get update -qq
    # The tests make clusters of their own; the one that the package would start is not wanted. Said for this
    # installation only: whoever installs PostgreSQL later gets what Debian gives.
    local unwanted=/etc/postgresql-common/createcluster.d/backstay.conf failed=0
    $sudo mkdir -p "${unwanted%/*}"
    echo 'create_main_cluster = false' | $sudo tee "$unwanted" > /dev/null
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null || failed=1
    $sudo rm -f "$unwanted"
    return $failed
}
# The Docker daemon, where nobody has started it. Only root can; else the tests say that it is missing.
daemon() {
    [ "$(id -u)" = 0 ] && ! docker version > /dev/null 2>&1 || return 0
    echo "starting dockerd (log: /var/log/dockerd.log)"
    if [ -d /run/systemd/system ]; then
        systemctl start docker
    else
        setsid dockerd > /var/log/dockerd.log 2>&1 < /dev/null &
    fi
    for _ in $(seq 300); do
        docker version > /dev/null 2>&1 && return 0
        sleep 0.1
    done
    echo "setup.sh: dockerd does not start" >&2 && exit 1
}
# A package that starts a service nobody here wants: the tests run the program themselves.
without_service() { # PACKAGE
    dpkg-query -W -f '${Status}' "$1" 2> /dev/null | grep -q 'ok installed' && return
    packages "$1"
    if [ -d /run/systemd/system ]; then
        $sudo systemctl disable --now "$1" > /dev/null 2>&1
    else
        $sudo service "$1" stop > /dev/null 2>&1 || true
        $sudo update-rc.d "$1" disable > /dev/null 2>&1 || true
    fi
}
# The extension's package is named by the server's version.
cron() {
    local newest
    newest=$(printf '%s\n' /usr/lib/postgresql/*/bin/initdb | sed 's|.*postgresql/||; s|/.*||' | sort -n | tail -1)
    packages "postgresql-$newest-cron"
}
# Debian's package of the server would start one. The program itself is in redis-tools, where it goes by another name.
redis() {
    have redis-server && return
    mkdir -p "$tools/bin"
    ln -sf /usr/bin/redis-check-rdb "$tools/bin/redis-server"
}
# Django of its own, for config/examples/django.toml.
django() {
    [ -x "$tools/django/bin/django-admin" ] && return
    echo "installing Django"
    python3 -m venv "$tools/django"
    "$tools/django/bin/pip" install --quiet 'django==5.2.19' 'psycopg[binary]==3.3.9'
}
# What is measured is built into a place of its own, as its makers would. For what tests only need to be there the compiler
# does not take half the time of the tests to make it fast.
crate() { # PLACE LEVEL NAME VERSION PROGRAM [ARGUMENT...]
    local place=$1 level=$2 name=$3 version=$4 program=$5
    shift 5
    [ "$place" = "$tools" ] && have "$program" && return
    if [ ! -x "$place/bin/$program" ]; then
        echo "building $name $version (once; this takes a while)"
        CARGO_PROFILE_RELEASE_OPT_LEVEL=$level cargo install "$name" --version "$version" --locked --quiet --root "$place" "$@"
    fi
}

build=(build-essential pkg-config libssl-dev)
case ${1:-test} in
    demo) packages "${build[@]}" postgresql postgresql-client ;;
    test)
        packages "${build[@]}" postgresql postgresql-client age b3sum zstd jq rclone acl attr util-linux openssl python3 python3-pip python3-venv docker.io iptables busybox-static redis-tools debootstrap systemd-container sqlite3 mariadb-server-core mariadb-client gnupg xz-utils zip procps strace curl chromium bsdutils
        without_service pgbouncer
        without_service nginx
        without_service prometheus
        cron
        daemon
        "$(dirname "$0")/server-roots.sh"
        "$(dirname "$0")/machine-root.sh"
        redis
        django
        python3 -c 'import moto.moto_server.werkzeug_app' 2> /dev/null || python3 -m pip install --quiet --break-system-packages 'moto[server]==5.2.1' 2> /dev/null || python3 -m pip install --quiet 'moto[server]==5.2.1'
        crate "$tools" 1 garage 2.5.0 garage --no-default-features --features bundled-libs,sqlite
        crate "$tools" 1 cargo-nextest 0.9.143 cargo-nextest
        ;;
    bench)
        packages "${build[@]}" postgresql postgresql-client age zstd restic rclone time strace linux-perf binutils
        crate "$tools/fast" 3 rustic-rs 0.11.4 rustic
        crate "$tools/fast" 3 garage 2.5.0 garage
        ;;
    build) ! have dpkg-query || packages "${build[@]}" ;;
    package) packages "${build[@]}" lintian ;;
    deny) crate "$tools" 0 cargo-deny 0.20.2 cargo-deny ;;
    *) echo "setup.sh: unknown task $1" >&2 && exit 2 ;;
esac
