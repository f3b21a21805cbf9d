#!/usr/bin/env bash
# The root file system of the systemd machines that tests boot (tests/support/machine.rs): Debian with everything in it
# that an application's host has. Its services are installed and disabled, so that a machine boots in a second; a test
# enables what it wants. Run again, it does nothing, unless the packages or the recipe have changed.
set -euo pipefail
packages=systemd,systemd-sysv,dbus,ca-certificates,iproute2,iptables,procps,nginx-light,postgresql,redis-server,docker.io
packages+=,python3-minimal,curl,age,busybox-static,cron,openssl
suite=bookworm
# To be counted up with every change of what is done with the packages below.
recipe=1
roots=$HOME/.cache/backstay-tools/roots
root=$roots/$suite
stamp=$roots/$suite.made

wanted="$recipe $packages"
is_made() { [ -d "$root" ] && [ "$(cat "$stamp" 2> /dev/null)" = "$wanted" ]; }
is_made && exit 0
[ "$(id -u)" = 0 ] || { echo "machine-root.sh: only root can make the root of a machine" >&2; exit 1; }
mkdir -p "$roots"
# Two at once would meet in one folder.
exec 9> "$roots/$suite.lock"
flock 9
is_made && exit 0
echo "making the root of the test machines ($suite)"
# debootstrap mounts /proc in it, and whoever killed it has left that mounted.
for place in $(awk -v below="$root.part/" 'index($2, below) == 1 { print $2 }' /proc/mounts | tac); do umount "$place"; done
rm -rf --one-file-system "$root.part" "$stamp"
log=$(mktemp) && trap 'rm -f "$log"' EXIT
debootstrap --variant=minbase --include="$packages" "$suite" "$root.part" > "$log" 2>&1 || { tail -20 "$log" >&2; exit 1; }

# With an id of its own it does not take each boot for its first, at which everything would be enabled.
systemd-machine-id-setup --root="$root.part" > /dev/null 2>&1
systemctl --root="$root.part" --quiet disable docker.service docker.socket containerd.service nginx.service \
    postgresql.service redis-server.service cron.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    e2scrub_all.timer e2scrub_reap.service fstrim.timer > /dev/null 2>&1
# A container's cgroups are made by its daemon, and the machine gets them read-only.
mkdir -p "$root.part/etc/systemd/system/docker.service.d"
cat > "$root.part/etc/systemd/system/docker.service.d/machine.conf" << 'END'
[Service]
ExecStartPre=/bin/sh -c 'mount -o remount,rw /sys/fs/cgroup; for c in /sys/fs/cgroup/*/; do mount -o remount,rw,bind "$c"; done; true'
END
# The journal survives a power cut, and nobody needs packages any more.
mkdir -p "$root.part/var/log/journal"
rm -rf "$root.part"/var/cache/apt/archives/*.deb "$root.part"/var/lib/apt/lists/*

rm -rf --one-file-system "$root.old"
[ ! -d "$root" ] || mv "$root" "$root.old"
mv "$root.part" "$root"
rm -rf --one-file-system "$root.old"
echo "$wanted" > "$stamp"
