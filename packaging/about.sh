# What package and tarball both need to know. Sourced, in the root of the project.
version=${BACKSTAY_VERSION:-$(sed -n '/^version = /{s/.*"\(.*\)"/\1/p;q}' Cargo.toml)}
architecture=$(dpkg --print-architecture 2> /dev/null || uname -m)
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) ||
        { echo "$0: outside of a git checkout, set SOURCE_DATE_EPOCH" >&2; exit 1; }
fi
export SOURCE_DATE_EPOCH
