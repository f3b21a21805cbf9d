# Two commands to begin with: `make demo` shows what Backstay does, `make test` proves it.
# On Debian, both install what they need (as root, or with sudo), but for Rust itself.

SHELL := /bin/bash
TOOLS := $(HOME)/.cache/backstay-tools
export PATH := $(TOOLS)/fast/bin:$(TOOLS)/bin:$(PATH)

.PHONY: demo test lint advisories bench scale tools demo-tools fmt

## Shows a backup and a restore of a real database and a tree, in a few minutes
demo: demo-tools
	cargo build --release --locked
	tests/demo.sh target/release/backstay

## Installs what the tests need, starts it and runs everything
test: tools
	cargo nextest run --locked --no-fail-fast

## Formatting, lints, licences, bans, sources. Advisories only where `make advisories` has fetched their database before
lint:
	cargo fmt --check
	cargo clippy --locked --all-targets -- --deny warnings
	tests/setup.sh deny
	cargo fetch --locked --quiet
	cargo deny --offline check licenses bans sources
	@if compgen -G '$(CARGO)/advisory-dbs/*/' > /dev/null; then cargo deny --offline check advisories; \
	else echo 'lint: advisories are NOT checked: no database below $(CARGO)/advisory-dbs. `make advisories` fetches it'; fi

## Fetches the database of RustSec from GitHub, and looks for advisories on what is linked
advisories:
	tests/setup.sh deny
	cargo deny check advisories

## Compares with restic, rustic and pipes; results go to docs/performance.md by hand
bench:
	tests/setup.sh bench
	cargo build --release --locked
	benches/run.sh target/release/backstay $(WORKLOADS)

## Measures commands on a synthetic vault; results go to docs/scale.md by hand
scale:
	tests/setup.sh bench
	cargo bench --locked --bench scale -- $(SCALE)

tools:
	tests/setup.sh test

demo-tools:
	tests/setup.sh demo

fmt:
	cargo fmt

# Made apart from other builds, since its flags take the paths of this machine out of the binary.
PACKAGE := target/package
CARGO := $(or $(CARGO_HOME),$(HOME)/.cargo)
REMAP := --remap-path-prefix=$(CURDIR)=/backstay --remap-path-prefix=$(CARGO)=/cargo
REMAP_C := CFLAGS=-ffile-prefix-map=$(CARGO)=/cargo
TRIPLE = $(shell rustc -vV | sed -n 's/^host: //p')
RELEASE = cargo build --release --locked --target-dir $(PACKAGE)

.PHONY: deb tarball static deb-check packaged build-tools

# On Debian; elsewhere the compiler says what it misses.
build-tools:
	tests/setup.sh build

packaged: build-tools
	$(REMAP_C) RUSTFLAGS="$(REMAP)" $(RELEASE)

## Builds the Debian package, into target/dist
deb: packaged
	packaging/deb.sh $(PACKAGE)/release/backstay target/dist

## Builds the tarball for hosts that are not Debian, into target/dist
tarball: packaged
	packaging/tarball.sh $(PACKAGE)/release/backstay target/dist

## Builds the tarball of a binary that needs no libraries, into target/dist
static: build-tools
	$(REMAP_C) OPENSSL_STATIC=1 RUSTFLAGS="$(REMAP) -C target-feature=+crt-static" $(RELEASE) --target $(TRIPLE)
	! readelf --dynamic $(PACKAGE)/$(TRIPLE)/release/backstay | grep NEEDED
	packaging/tarball.sh $(PACKAGE)/$(TRIPLE)/release/backstay target/dist -static

## Makes package and tarball twice, compares the bytes, and asks lintian
deb-check: packaged
	tests/setup.sh package
	packaging/check.sh $(PACKAGE)/release/backstay
