# Cell. `make run` starts a cell, `make test` proves it. `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Where the running cell keeps everything, and the network namespace it lives in (empty: the launcher decides).
CELL_HOME ?= ./var
export CELL_HOME

WEBUI_SOURCES := $(shell find webui/src webui/index.html webui/public webui/openapi.json webui/package.json webui/vite.config.ts 2>/dev/null)

.PHONY: help
help: ## List the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

# --- build ---------------------------------------------------------------------------------------------------------

# What is run for itself and measured is optimised; what is tested is built once, in the quicker profile.
RUN := target/release
BIN := target/debug

.PHONY: deps
deps: ## Install the Debian packages that running and testing need.
	@bash launch/install-deps.sh test

webui/node_modules/.package-lock.json: webui/package-lock.json
	@echo "==> web UI: installing packages"
	@cd webui && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

webui/dist/index.html: webui/node_modules/.package-lock.json $(WEBUI_SOURCES)
	@echo "==> web UI: building"
	@cd webui && npm run --silent build

.PHONY: build
build: webui/dist/index.html ## Build everything, optimised.
	@echo "==> building the daemons (the first time takes some minutes)"
	@cargo build --release --locked --workspace --bins

.PHONY: build-test
build-test: webui/dist/index.html
	@echo "==> building the daemons for the tests"
	@cargo build --locked --workspace --bins

.PHONY: build-tests
build-tests: webui/dist/index.html
	@echo "==> building the programs of tests"
	@cargo test --locked --workspace --no-run

# --- run -----------------------------------------------------------------------------------------------------------

.PHONY: run
run: ## Start a cell in the foreground; Ctrl-C ends it.
	@[ "$$(id -u)" = 0 ] || { echo "make run: needs root, to make the cell's users and its network: sudo make run" >&2; exit 1; }
	@bash launch/install-deps.sh run
	@$(MAKE) --no-print-directory build users
	@$(RUN)/cell-launch run

.PHONY: users
users:
	@systemd-sysusers "$(CURDIR)/systemd/sysusers.d/cell.conf"

.PHONY: images
images: ## Build the images of services on this machine and give them to its Docker, for `make run` (some minutes).
	@[ -e "$(CELL_HOME)/.cell-home" ] || { echo "images: there is no cell in $(CELL_HOME) yet, whose list of images this writes: make run first" >&2; exit 1; }
	@bash compose/images/build.sh --list "$(CELL_HOME)/etc/images.toml" all

.PHONY: compose-image
compose-image: build ## Build the image of the whole cell in containers (compose/README.md) and give it to this machine's Docker.
	@CELL_BIN=$(RUN) bash compose/images/build.sh cell

.PHONY: clean-host
clean-host: ## Remove every interface, rule and route that a cell left on this machine.
	@for launch in $(RUN)/cell-launch $(BIN)/cell-launch; do [ ! -x $$launch ] || exec $$launch clean-host; done; \
	  echo "clean-host: cell-launch, which does it, is not built: make build, then this again" >&2; exit 1

# --- prove ---------------------------------------------------------------------------------------------------------

.PHONY: test
test: deps build-test users test-webui test-rust demo redteam badinput chaos leaktest-short storetest-short composetest browsertest systemtest bench-short bench-net-short ## Everything.
	@echo; $(BIN)/cell-proofs --require demo,redteam,badinput,chaos,leaktest-short,storetest-short,composetest,browsertest,systemtest,bench-short,bench-net-short
	@echo "make test: all of it passed"

.PHONY: test-webui
test-webui: webui/dist/index.html
	@echo "==> web UI: unit tests and budgets"
	@cd webui && npm test --silent && npm run --silent budget

.PHONY: test-rust
test-rust: build-test users ## Unit, property, contract and namespace tests (as root).
	@echo "==> Rust: unit, property, contract and namespace tests"
	@bash lab/cargo-test.sh --workspace
	@cargo test --locked --workspace --doc --quiet
	@$(MAKE) --no-print-directory test-iptables-short

.PHONY: demo
demo: build-test users ## Show in namespaces who reaches what, with packet counters.
	@$(BIN)/demo
	@echo; echo "==> what the last run of each proof found"; $(BIN)/cell-proofs --require demo

.PHONY: redteam
redteam: build-test users ## Attack a running cell as its own web process.
	@bash lab/with-docker.sh bash lab/redteam.sh $(BIN)

.PHONY: browsertest
browsertest: build-test users ## Drive the web UI of a fresh cell in Chromium.
	@bash lab/with-cell.sh $(BIN) bash -c 'npm --prefix webui run --silent e2e -- --url "$$CELL_URL" --claim-token "$$CELL_CLAIM_TOKEN"'

.PHONY: badinput
badinput: build-test users ## Send malformed requests; each must be refused, nothing may change.
	@$(BIN)/cell-badinput

.PHONY: chaos
chaos: build-test users ## Kill daemons at random moments, 100 times, while they work (KILLS=520: each a hundred times).
	@$(BIN)/cell-chaos $(if $(KILLS),--kills $(KILLS))

# Programs of netd's tests that speak to the kernel, all of which hold with either renderer; those of the short form are of where packets go.
IPTABLES_SHORT := world services entries public_http shut exits redirects leaks dns
IPTABLES_LONG := marked explain tunnels openvpn user_tunnels tor intent lockout confirm service_relay callers

.PHONY: test-iptables
test-iptables: build-test users ## netd's namespace tests once more, with the policy in legacy iptables (some ten minutes; a part of them in `make test`).
	@echo "==> Rust: netd with the renderer iptables"
	@CELL_TEST_RENDERER=iptables CELL_TEST_PACKAGE=netd bash lab/cargo-test.sh --workspace $(addprefix --test ,$(IPTABLES_SHORT) $(IPTABLES_LONG))

.PHONY: test-iptables-short
test-iptables-short: build-test users
	@echo "==> Rust: netd with the renderer iptables, in short"
	@CELL_TEST_RENDERER=iptables CELL_TEST_PACKAGE=netd bash lab/cargo-test.sh --workspace $(addprefix --test ,$(IPTABLES_SHORT))

.PHONY: leaktest
leaktest: build users ## Break and change everything around exits 2,000 times, each kind with each type of exit; no packet of a bound peer or service leaks (some half an hour).
	@$(RUN)/cell-leaktest $(if $(SEED),--seed $(SEED))

.PHONY: leaktest-short
leaktest-short: build-test users ## The same 200 times, each kind (some four minutes).
	@$(BIN)/cell-leaktest --short $(if $(SEED),--seed $(SEED))

.PHONY: leaktest-iptables-short
leaktest-iptables-short: build-test users ## The same 60 times, with the policy in legacy iptables (some two minutes; not part of `make test`).
	@$(BIN)/cell-leaktest --short --renderer iptables $(if $(SEED),--seed $(SEED))

.PHONY: brokertest
brokertest: build-test ## Hold the broker to all its cases, a million random manifests and 50 kills (some half an hour).
	@CELL_BROKER_CASES=$(or $(CASES),1000000) CELL_BROKER_KILLS=$(or $(KILLS),50) CELL_BROKER_STARTED=$(or $(STARTED),20) bash lab/brokertest.sh

.PHONY: storetest
storetest: build-test users ## Use services as devices do, and install and remove one 50 times while daemons and Docker are killed (some 15 minutes; images are kept).
	@$(BIN)/cell-storetest $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SEED),--seed $(SEED))

.PHONY: storetest-short
storetest-short: build-test users ## The same with four rounds (some four minutes).
	@$(BIN)/cell-storetest --short --rounds 4 $(if $(SEED),--seed $(SEED))

.PHONY: composetest
composetest: build-test ## Run the whole cell in containers beside a Docker of its own, use it, kill it, look at its split (some two minutes; images are kept).
	@bash lab/compose/run.sh $(BIN)

.PHONY: bench-store
bench-store: build users ## Measure the broker beside bollard, names and routes up to 10,000, and a click on an installation (some ten minutes).
	@$(RUN)/cell-bench-store

.PHONY: systemtest
systemtest: build-test users ## Install the package under a real systemd in a container, use it, end it at once while a change waits, purge it.
	@bash lab/systemd/run.sh --bin $(BIN)

.PHONY: systemtest-vm
systemtest-vm: build ## The same in two virtual machines with the kernel's own WireGuard (some minutes).
	@bash lab/systemd/vm.sh --bin $(RUN)

.PHONY: bench
bench: build users ## Measure Cell beside its peers (takes some minutes).
	@$(RUN)/cell-bench

.PHONY: bench-short
bench-short: build-test users
	@$(BIN)/cell-bench --short

.PHONY: bench-net
bench-net: build users ## Measure exits, with 10,000 peers over 200 of them, beside their peers (some minutes).
	@$(RUN)/cell-bench-net

.PHONY: bench-net-short
bench-net-short: build-test users
	@$(BIN)/cell-bench-net --short

# Coverage without a nightly compiler: what cargo-fuzz(1) tells rustc, for the targets and all that they stand on.
FUZZ_SECONDS ?= 60
FUZZ_FLAGS := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Cdebug-assertions

.PHONY: fuzz
fuzz: build-test ## Run each fuzz target for FUZZ_SECONDS (60), two at a time.
	@echo "==> building the fuzz targets with coverage"
	@host=$$(rustc -vV | sed -n 's/^host: //p'); RUSTFLAGS="$(FUZZ_FLAGS)" cargo build --quiet --locked --release \
	  --manifest-path fuzz/Cargo.toml --target $$host --target-dir target/fuzz-run && \
	  $(BIN)/cell-fuzz --seconds $(FUZZ_SECONDS) --programs target/fuzz-run/$$host/release

# What the image of accounts is made of has no library beside it.
HOST := $(shell uname -m)-unknown-linux-gnu

.PHONY: accounts-static
accounts-static:
	@RUSTFLAGS='-C target-feature=+crt-static' cargo build --quiet --release --locked -p cell-accounts --target $(HOST)

.PHONY: deb
deb: build accounts-static ## Build the Debian package.
	@bash packaging/build-deb.sh --accounts target/$(HOST)/release/cell-accounts

.PHONY: images-deb
images-deb: ## Build a second package with the images of services, built and packed (as root; some minutes).
	@bash packaging/build-images-deb.sh

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
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo fetch --locked   # of every platform, as cargo-deny reads the whole graph
	target/tools/bin/cargo-deny --offline check --hide-inclusion-graph licenses bans sources
	cargo metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml > target/fuzz-metadata.json   # its lock file is up to date
	cd proto && ../tools/node_modules/.bin/buf lint
	bash systemd/lint.sh
	cd webui && npm run --silent typecheck && npm run --silent lint && npm run --silent gen:check

.PHONY: fuzz-check
fuzz-check: ## Compile the fuzz targets (fuzz/README.md says how to run them).
	cargo check --locked --manifest-path fuzz/Cargo.toml --target-dir target/fuzz

.PHONY: advisories
advisories: target/tools/bin/cargo-deny ## Check dependencies against the RustSec database (needs the internet).
	target/tools/bin/cargo-deny check advisories

.PHONY: fmt
fmt: ## Format everything.
	cargo fmt --all
	cd webui && npm run --silent format
