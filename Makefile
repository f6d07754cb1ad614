# Cell. `make run` starts a cell, `make test` proves it. `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Where the running cell keeps everything, and the network namespace it lives in (empty: the launcher decides).
CELL_HOME ?= ./var
export CELL_HOME

BIN := target/release
WEBUI_SOURCES := $(shell find webui/src webui/index.html webui/public webui/openapi.json webui/package.json webui/vite.config.ts 2>/dev/null)

.PHONY: help
help: ## List the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

# --- build ---------------------------------------------------------------------------------------------------------

.PHONY: deps
deps: ## Install the Debian packages that running and testing need.
	@bash launch/install-deps.sh

webui/node_modules/.package-lock.json: webui/package-lock.json
	@echo "==> web UI: installing packages"
	@cd webui && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

webui/dist/index.html: webui/node_modules/.package-lock.json $(WEBUI_SOURCES)
	@echo "==> web UI: building"
	@cd webui && npm run --silent build

.PHONY: build
build: webui/dist/index.html ## Build everything.
	@echo "==> building the daemons (the first time takes some minutes)"
	@cargo build --release --locked --workspace --bins

# --- run -----------------------------------------------------------------------------------------------------------

.PHONY: run
run: deps build users ## Start a cell in the foreground; Ctrl-C ends it.
	@$(BIN)/cell-launch run

.PHONY: users
users:
	@systemd-sysusers "$(CURDIR)/systemd/sysusers.d/cell.conf"

.PHONY: clean-host
clean-host: ## Remove every interface, rule and route that a cell left on this machine.
	@$(BIN)/cell-launch clean-host

# --- prove ---------------------------------------------------------------------------------------------------------

.PHONY: test
test: deps build users test-webui test-rust demo redteam badinput chaos-short browsertest systemtest bench ## Everything.
	@echo; echo "make test: all of it passed"

.PHONY: test-webui
test-webui: webui/node_modules/.package-lock.json
	@echo "==> web UI: unit tests and budgets"
	@cd webui && npm test --silent && npm run --silent budget

.PHONY: test-rust
test-rust: webui/dist/index.html ## Unit, property, contract and namespace tests (as root).
	@cargo test --release --locked --workspace

# --- lint ----------------------------------------------------------------------------------------------------------

target/tools/bin/cargo-deny: tools/requirements.txt
	@python3 -m venv target/tools && target/tools/bin/pip install --quiet --disable-pip-version-check -r tools/requirements.txt
	@touch $@

tools/node_modules/.package-lock.json: tools/package-lock.json
	@cd tools && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

.PHONY: lint
lint: webui/dist/index.html target/tools/bin/cargo-deny tools/node_modules/.package-lock.json ## fmt, clippy, deny, protos, units, web UI types.
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	target/tools/bin/cargo-deny --offline check --hide-inclusion-graph licenses bans sources
	cd proto && ../tools/node_modules/.bin/buf lint
	bash systemd/lint.sh
	cd webui && npm run --silent typecheck && npm run --silent lint && npm run --silent gen:check

.PHONY: advisories
advisories: target/tools/bin/cargo-deny ## Check dependencies against the RustSec database (needs the internet).
	target/tools/bin/cargo-deny check advisories

.PHONY: fmt
fmt: ## Format everything.
	cargo fmt --all
	cd webui && npm run --silent format
