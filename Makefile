# Two commands matter: `make run` starts everything, `make test` tests everything.
# `make ci` is what CI runs. Everything else is a part of these.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Postgres servers of other majors, for the kit's tests. Their folder has to be reachable by the
# user that runs them, which for root is another one.
POSTGRES_DIR ?= $(if $(filter 0,$(shell id -u)),/var/lib/cloison/postgres,$(CURDIR)/target/postgres)
export TEST_POSTGRES_DIR := $(POSTGRES_DIR)

.PHONY: help run test bench bench-micro deps deps-build deps-run deps-system deps-postgres deps-drivers ci ci-parts fmt \
	clippy doc deny bare clean release install deb dist sbom

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

run: deps-run ## Start Postgres, sample tenants and the proxy, and print how to connect (ARGS="--json …")
	@echo '==> building cloison; the first time takes about 4 minutes of CPU' >&2
	@cargo run --locked --bin cloison -- dev $(ARGS)

test: deps ## Run every test: unit, Postgres 14 to 18, real drivers
	tests/run.sh

bench: deps-build ## Measure beside Postgres, a bare relay and PgBouncer, 6 minutes (QUICK=1: one)
	cargo build --release --locked --bin cloison --example load --example relay
	python3 benches/run.py

bench-micro: deps-build ## Measure frames, tokens and binds alone
	cargo bench --locked --bench micro

deps: deps-system deps-postgres deps-drivers ## Install what the tests need

deps-build:
	@tests/setup-build.sh

# Another database's server is there already.
deps-run:
	@tests/setup-system.sh $(if $(findstring --database-url,$(ARGS)),build,run)

deps-system:
	@tests/setup-system.sh test

deps-postgres:
	tests/setup-postgres.sh "$(POSTGRES_DIR)"

deps-drivers:
	tests/setup-drivers.sh

CI_PARTS := deps fmt clippy doc deny bare test

ci: $(CI_PARTS) ## What CI runs

ci-parts:
	@echo $(CI_PARTS)

fmt: ## Check the formatting
	cargo fmt --check

clippy: deps-build ## Lint; a warning is an error
	cargo clippy --all-targets --locked -- -D warnings

doc: deps-build ## Build the documentation; a warning is an error
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked --document-private-items

deny: ## Check licences, bans and sources of the dependencies
	command -v cargo-deny > /dev/null || cargo install cargo-deny --locked
	cargo deny check bans licenses sources

bare: ## Prove `make run` and the package on a minimal Debian (BARE="bookworm trixie user llvm")
	tests/bare.sh

# What packages are made of. With BIN=… a program that is built already is packed.
PACKAGES := target/packages
BIN ?= target/release/cloison
BUILT := $(if $(filter file,$(origin BIN)),release)

release: deps-build ## Build the program as it is packed
	cargo build --release --locked --bin cloison

install: $(BUILT) ## Install below PREFIX (/usr/local), with man pages, completions and unit
	PREFIX="$(or $(PREFIX),/usr/local)" DESTDIR="$(DESTDIR)" packaging/install.sh "$(BIN)"

deb: $(BUILT) ## Make Debian's package, in target/packages
	packaging/deb.sh "$(BIN)" $(PACKAGES)
	packaging/checksums.sh $(PACKAGES)

dist: $(BUILT) ## Make a tarball, in target/packages
	packaging/dist.sh "$(BIN)" $(PACKAGES)
	packaging/checksums.sh $(PACKAGES)

sbom: ## Make a bill of materials (CycloneDX), in target/packages
	command -v cargo-cyclonedx > /dev/null || cargo install cargo-cyclonedx --locked
	packaging/sbom.sh $(PACKAGES)
	packaging/checksums.sh $(PACKAGES)

clean: ## Remove what was built
	cargo clean
