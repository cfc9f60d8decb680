# What people and CI do here. Bare `make` lists it.

CACHE ?= $(or $(DURABLE_WRITE_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/durable-write)
# One build for everything: the same packages, profile and features, so that no dependency is compiled twice.
BUILD := cargo build --workspace --all-targets
TESTBED := target/debug/testbed
CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := $(CACHE)/cargo-deny-$(CARGO_DENY_VERSION)/bin/cargo-deny
IMAGE ?= localhost/durable-write:dev
# Tests wait more than they work; but suites beside one another starve each other's databases on two cores. Java lives for minutes here: it
# costs a third less when it does not compile for years.
TEST_THREADS ?= 4
CARGO_TEST := RUST_TEST_THREADS=$(TEST_THREADS) JDK_JAVA_OPTIONS=-XX:TieredStopAtLevel=1 cargo test --workspace

.DEFAULT_GOAL := help
.PHONY: help demo tools build lint test soak bench image crds down clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: build ## All of it at work: 3,000 messages and a failover (first time 20 to 40 minutes, later 2); for a cluster of yours: KUBECONFIG=file IMAGE=name:tag ADDRESS=ours
	$(TESTBED) demo $(if $(ADDRESS),--address $(ADDRESS) --image $(IMAGE))

test: lint tools ## Everything that CI runs: lint and all tests, on real parts (first time an hour, later half an hour)
	$(MAKE) -C cfn test
	$(CARGO_TEST)

soak: tools ## Thirty failovers each of the database, under workers and under a probe; thousands of kills of the operator (about 20 minutes)
	$(CARGO_TEST) --test aurora --test worker --test probe -- --ignored
	DRILL_SEEDS=3000 $(CARGO_TEST) --lib -- drill::simulation

lint: $(CARGO_DENY) ## Format, clippy, and licences and sources of dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- --deny warnings
	$(CARGO_DENY) --offline check licenses bans sources

tools: build ## Install and build what the testbed needs (first time 10 to 25 minutes)
	$(TESTBED) tools

build: ## Build all, for development
	$(BUILD)

bench: build ## Measure drains beside a rival, failovers, and what a drill costs (first time 15 minutes, later 7); tables and JSON
	cargo build --release -p durable-write-worker
	$(TESTBED) bench drain
	$(TESTBED) bench failover
	$(TESTBED) bench drill

image: build ## Build the release image into target/image.tar (first time 15 minutes); IMAGE=name:tag
	cargo build --release -p durable-write-operator -p durable-write-worker
	$(TESTBED) image --tag $(IMAGE) --archive target/image.tar \
	  target/release/durable-write-operator target/release/durable-write-worker

crds: ## Write the CustomResourceDefinitions anew, here and in the chart, and the schema of the evidence
	$(BUILD)
	target/debug/crdgen crds/crds charts/durable-write/definitions
	target/debug/schemagen > crds/schemas/drill-evidence-v1.json

down: build ## Take down the demo and whatever else the testbed has started
	$(TESTBED) down
	$(TESTBED) cluster down

clean: ## Remove what was built here; tools stay in the cache
	cargo clean

# Without optimisation it is built in 2 minutes, and quick enough.
$(CARGO_DENY):
	CARGO_PROFILE_DEV_DEBUG=0 cargo install --locked --debug --version $(CARGO_DENY_VERSION) cargo-deny \
	  --root $(CACHE)/cargo-deny-$(CARGO_DENY_VERSION)
