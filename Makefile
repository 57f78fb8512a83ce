# `make help` lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help
CARGO ?= cargo

.PHONY: help
help: ## list what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{ printf "  make %-16s %s\n", $$1, $$2 }'

.PHONY: build
build: ## build the release binary
	@scripts/build

.PHONY: run
run: build ## serve a board on http://127.0.0.1:5000 with a private database in ./data
	@scripts/run

.PHONY: test
test: ## run all tests against a throw-away database
	@scripts/test

.PHONY: check
check: ## format, lints and documentation, warnings as errors
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --document-private-items

.PHONY: deny
deny: ## check the dependencies' licences and sources with cargo-deny
	@$(CARGO) deny --version >/dev/null 2>&1 || { echo "installing cargo-deny"; $(CARGO) install --locked --quiet cargo-deny; }
	$(CARGO) deny check licenses bans sources

# Load and hostile clients: the test programs with the optimizations of a release, in a folder of their own.
OPTIMIZED = CARGO_PROFILE_DEV_OPT_LEVEL=3 CARGO_TARGET_DIR=target/optimized

.PHONY: crowd
crowd: ## the hostile clients and the overload alone, optimized, with the limits in full
	@$(OPTIMIZED) TWOTIER_TEST_ALONE=1 scripts/test hostile:: --test-threads=1 --nocapture

.PHONY: bench
bench: build ## measure speed, memory and growth on a private database (SECONDS=5 ROUNDS=3 ROWS=10000000)
	@SECONDS_EACH='$(SECONDS)' ROUNDS='$(ROUNDS)' ROWS='$(ROWS)' scripts/bench

.PHONY: bench-smoke
bench-smoke: build ## the same, briefly and small, to see that it runs
	@scripts/bench --smoke

.PHONY: bench-peers
bench-peers: build ## side by side with its peers, where ../shared/bench is there (CONNECTIONS=1,16,64,256 ROUNDS=3 SECONDS=5)
	@[ -e ../shared/bench/compare.py ] || { echo "error: the peers are not here: ../shared/bench/compare.py is missing." >&2; exit 1; }
	@python3 ../shared/bench/compare.py --server $(or $(CARGO_TARGET_DIR),target)/release/twotier \
		--rounds $(or $(ROUNDS),3) --seconds $(or $(SECONDS),5) --connections $(or $(CONNECTIONS),1,16,64,256)

.PHONY: fuzz
fuzz: ## run each fuzz target for SECONDS=60
	@scripts/fuzz $(or $(SECONDS),60)

# Endurance. `make test` has a short run of the first in it.
chaos: SECONDS ?= 60
soak: MINUTES ?= 30

.PHONY: chaos
chaos: ## kill database and service at random for SECONDS=60, and compare the books
	@scripts/chaos $(SECONDS)

.PHONY: soak
soak: ## mixed load for MINUTES=30; memory, descriptors and threads may not grow
	@scripts/soak $(MINUTES)

# Containers, with Podman or Docker.
.PHONY: up
up: ## start board and MySQL in containers, and print the address (APP_PORT=5000)
	@scripts/up

.PHONY: down
down: ## stop the containers; the messages stay
	@scripts/down

.PHONY: restart
restart: ## restart the containers
	@scripts/restart

.PHONY: logs
logs: ## the containers' logs
	@scripts/logs

.PHONY: ps
ps: ## the containers' state
	@scripts/ps

.PHONY: clean
clean: ## remove containers, image, passwords and ALL MESSAGES of the containers (asks; CONFIRM=1)
	@scripts/clean

.PHONY: image
image: ## build the image
	@scripts/image

.PHONY: secrets
secrets: ## make the containers' passwords, once
	@scripts/secrets

.PHONY: db-shell
db-shell: ## the database's own client
	@scripts/db-shell

.PHONY: backup
backup: ## write backups/NAME-TIME.sql.gz and its manifest (BACKUP_KEEP=N keeps the newest N)
	@scripts/backup

.PHONY: restore
restore: ## put a backup in place of all messages (FILE=backups/…; asks; CONFIRM=1)
	@scripts/restore "$(FILE)"

.PHONY: drill
drill: ## back up, restore into a throw-away database, and compare
	@scripts/drill

.PHONY: import
import: ## take in a mysqldump of the Flask app's database (FILE=dump.sql)
	@scripts/import "$(FILE)"

.PHONY: test-containers
test-containers: ## test all of the above with the container engines that are there
	@scripts/test-containers
