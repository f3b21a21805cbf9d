# Two commands to begin with: `make demo` shows what Backstay does, `make test` proves it.
# On Debian, both install what they need (as root, or with sudo).

SHELL := /bin/bash
TOOLS := $(HOME)/.cache/backstay-tools
export PATH := $(TOOLS)/bin:$(PATH)

.PHONY: demo test lint bench scale tools demo-tools fmt

## Shows a backup and a restore of a real database and a tree, in a few minutes
demo: demo-tools
	cargo build --release --locked
	tests/demo.sh target/release/backstay

## Installs what the tests need, starts it and runs everything
test: tools
	cargo nextest run --locked --no-fail-fast

## Formatting, lints, licences and advisories
lint:
	cargo fmt --check
	cargo clippy --locked --all-targets -- --deny warnings
	tests/setup.sh deny
	cargo fetch --locked --quiet
	cargo deny --offline check licenses bans sources

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
