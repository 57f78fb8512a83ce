# `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
CARGO ?= cargo

.PHONY: help
help:
	@awk '/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		match($$0, /^[a-z-]+:.*## /) { printf "  make %-16s %s\n", substr($$0, 1, index($$0, ":") - 1), substr($$0, RLENGTH + 1) }' Makefile

##@ Start a board

.PHONY: run
run: ## serve a board on http://127.0.0.1:5000 with a private database in ./data (PORT=5000 BIND=127.0.0.1)
	@scripts/run check-port && scripts/build && scripts/run

.PHONY: up
up: ## start a board and MySQL in containers, and print the address (APP_PORT=5000 APP_NAME=twotier PROXY=1 MONITORING=1)
	@scripts/up

##@ Operate a board in containers

.PHONY: down
down: ## stop and remove the containers (the messages stay)
	@scripts/down

.PHONY: restart
restart: ## restart the containers
	@scripts/restart

.PHONY: ps
ps: ## list the containers and their state
	@scripts/ps

.PHONY: logs
logs: ## print the logs of the containers by time (TAIL=100 FOLLOW=1)
	@scripts/logs

.PHONY: doctor
doctor: ## check containers, volume, disk, backups, settings and database, and name each problem
	@scripts/doctor

.PHONY: proxy-ca
proxy-ca: ## print the certificate of the CA that signs for localhost with PROXY=1
	@scripts/proxy-ca

.PHONY: image
image: ## build the image
	@scripts/image

.PHONY: secrets
secrets: ## create missing passwords of the containers
	@scripts/secrets

.PHONY: reset-passwords
reset-passwords: ## set new passwords, also when the old ones are lost (no message is lost)
	@scripts/reset-passwords

.PHONY: destroy
destroy: ## remove the containers, the image, the passwords and ALL MESSAGES of a board (asks; CONFIRM=1 answers yes)
	@scripts/destroy

##@ Back up, restore and import

.PHONY: backup
backup: ## write a backup and its manifest into backups/ (BACKUP_KEEP=N keeps the newest N)
	@scripts/backup

.PHONY: restore
restore: ## replace all messages with those of a backup (FILE=backups/... KEEP_NEWER=1; asks; CONFIRM=1 answers yes)
	@scripts/restore "$(FILE)"

.PHONY: backups
backups: ## list the backups, the tables that restores replaced, and the files that killed commands left
	@scripts/backups

.PHONY: prune
prune: ## remove old tables and backups of that list (TABLE_KEEP_DAYS=30 BACKUP_KEEP=N; asks; CONFIRM=1 answers yes)
	@scripts/prune

.PHONY: drill
drill: ## prove that a backup can be restored: back up, restore into a throw-away database, compare
	@scripts/drill

.PHONY: import
import: ## add the messages of another database (FILE=dump.sql, or VOLUME=flask-data IMAGE=mysql:8.0; ZONE= FROM_DB= WHOLE=1)
	@scripts/import "$(FILE)"

.PHONY: db-shell
db-shell: ## open the client of the database
	@scripts/db-shell

##@ Build and test

.PHONY: build
build: ## build the release binary
	@scripts/build

.PHONY: test
test: ## run all tests against a throw-away database
	@scripts/test

.PHONY: check
check: ## check format, lints and documentation; warnings are errors
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --document-private-items

.PHONY: check-scripts
check-scripts: ## check the scripts with shellcheck and the Containerfile with hadolint
	@scripts/check-scripts

.PHONY: check-workflows
check-workflows: ## check the workflows in .github with actionlint and zizmor
	@scripts/check-workflows

.PHONY: deny
deny: ## check the licences and sources of the dependencies with cargo-deny
	@$(CARGO) deny --version >/dev/null 2>&1 || { echo "installing cargo-deny"; $(CARGO) install --locked --quiet cargo-deny; }
	$(CARGO) deny check licenses bans sources

.PHONY: audit
audit: ## check the dependencies for known weaknesses with cargo-deny (downloads the database of RustSec)
	@$(CARGO) deny --version >/dev/null 2>&1 || { echo "installing cargo-deny"; $(CARGO) install --locked --quiet cargo-deny; }
	$(CARGO) deny check advisories

.PHONY: sbom
sbom: ## write the list of all crates in the binary with their licences (CycloneDX) to target/twotier.cdx.json
	@scripts/sbom

.PHONY: test-containers
test-containers: ## test the targets for containers and data with the installed engines (ONLY="NAME ..." runs these checks only)
	@scripts/test-containers

.PHONY: test-browser
test-browser: build ## test the page in Chromium against a private database, and take its pictures (ONLY="WORD ..." runs the tests with these words)
	@scripts/test-browser $(ONLY)

.PHONY: test-api
test-api: build ## test the API against its description, /openapi.json, with schemathesis and a private database
	@scripts/test-api

.PHONY: test-proxy
test-proxy: build ## test deploy/proxy: Caddy and nginx in front of the board, with real clients
	@scripts/test-proxy

.PHONY: test-monitoring
test-monitoring: build ## test deploy/monitoring: the alerts, and each query against a Prometheus that scrapes a board through a fault
	@scripts/test-monitoring

.PHONY: test-cluster
test-cluster: build ## break databases under two boards, and check the history of all requests (KIND=replica SHORT=1 SECONDS=300)
	@SHORT='$(SHORT)' MORE_SECONDS='$(SECONDS)' scripts/test-cluster $(KIND)

.PHONY: test-kubernetes
test-kubernetes: build ## test deploy/kubernetes without a cluster, and a rolling update of two replicas behind HAProxy
	@scripts/test-kubernetes
	@scripts/test-rolling-update

.PHONY: test-systemd
test-systemd: build ## test deploy/systemd: the services by a systemd in namespaces (needs root), and the Quadlet units
	@scripts/test-systemd

.PHONY: fuzz
fuzz: ## run each fuzz target (SECONDS=60 for each)
	@scripts/fuzz $(or $(SECONDS),60)

# `make test` includes a short run of chaos.
chaos: SECONDS ?= 60
soak: MINUTES ?= 30

.PHONY: chaos
chaos: ## kill the database and the service at random, and check that no message is lost or stored twice (SECONDS=60)
	@scripts/chaos $(SECONDS)

.PHONY: soak
soak: ## run a mixed load, and check that memory, descriptors and threads do not grow (MINUTES=30)
	@scripts/soak $(MINUTES)

# The test programs with the optimizations of a release, in their own folder.
OPTIMIZED = CARGO_PROFILE_DEV_OPT_LEVEL=3 CARGO_TARGET_DIR=target/optimized

.PHONY: crowd
crowd: ## run the tests with hostile clients and overload, optimized and with the full limits
	@$(OPTIMIZED) TWOTIER_TEST_ALONE=1 scripts/test hostile:: connections:: --include-ignored --test-threads=1 --nocapture

.PHONY: clean
clean: ## remove build output (databases, passwords and backups stay)
	@scripts/clean

##@ Release

.PHONY: release
release: ## check version, changelog and clean tree, and build what a release holds into target/release-files/ (NO_IMAGE=1 NO_ARM64=1)
	@scripts/release

.PHONY: test-release
test-release: ## test what `make release` refuses
	@scripts/test-release

.PHONY: build-arm
build-arm: ## build the release binary for arm64 on amd64, and run it under emulation
	@scripts/build-arm64

##@ Measure

.PHONY: bench
bench: build ## measure speed, memory and growth on a private database (SECONDS=5 ROUNDS=3 ROWS=10000000)
	@SECONDS_EACH='$(SECONDS)' ROUNDS='$(ROUNDS)' ROWS='$(ROWS)' scripts/bench

.PHONY: bench-smoke
bench-smoke: build ## run a short and small benchmark, to check that it works
	@scripts/bench --smoke

.PHONY: bench-live
bench-live: build ## measure /events with many open streams (STREAMS=5000 SECONDS=5 ROUNDS=3)
	@SECONDS_EACH='$(SECONDS)' ROUNDS='$(ROUNDS)' STREAMS='$(STREAMS)' scripts/bench-live

.PHONY: bench-peers
bench-peers: build ## compare with other boards, if ../shared/bench exists (CONNECTIONS=1,2,4,16,64,256 ROUNDS=3 SECONDS=5)
	@[ -e ../shared/bench/compare.py ] || { echo "error: the other boards are missing (../shared/bench/compare.py)." >&2; exit 1; }
	@python3 ../shared/bench/compare.py --server $(or $(CARGO_TARGET_DIR),target)/release/twotier \
		--rounds $(or $(ROUNDS),3) --seconds $(or $(SECONDS),5) --connections $(if $(CONNECTIONS),$(CONNECTIONS),1,2,4,16,64,256)
