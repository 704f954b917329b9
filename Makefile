# What there is to do with this repository. `make` alone lists it.
#
# One profile (dev) serves demo, tests and checks, so that nothing is built twice; release serves bench and users.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

SEED ?=
MINUTES ?= 30

.PHONY: help demo test check fmt bench soak newcomer release

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 12

demo: ## three regions in one process, nothing to install but Rust and a C compiler
	@deploy/dev/require cargo cc make
	cargo run --locked --quiet -- demo

test: ## all tests, real Kafka clusters included
	@deploy/dev/require cargo cc make java mvn
	@deploy/dev/kafka jars >/dev/null
	LONGSHORE_TESTS_MUST_RUN=1 cargo test --locked

check: ## format, lints, documentation
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
	@! command -v cargo-deny >/dev/null || cargo deny --offline check bans licenses sources

fmt: ## format the sources
	cargo fmt

release: ## the program as users run it
	@deploy/dev/require cargo cc make
	cargo build --locked --release

bench: ## CPU, memory and latency against a bare loop and MirrorMaker 2 (about 20 minutes)
	@deploy/dev/require cargo cc make java mvn
	@deploy/dev/kafka jars >/dev/null
	cargo bench --locked --bench bench

soak: ## kill bridges and brokers at random: SEED=7 MINUTES=30
	@deploy/dev/require cargo cc make java mvn
	@deploy/dev/kafka jars >/dev/null
	LONGSHORE_TESTS_MUST_RUN=1 LONGSHORE_SOAK_SECONDS=$$(( $(MINUTES) * 60 )) LONGSHORE_SEED=$(SEED) \
		cargo test --locked --test it -- --nocapture chaos

newcomer: ## the README from top to bottom in a clean clone with empty caches, and how long each step takes
	tests/newcomer
