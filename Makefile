# What there is to do here: `make help`.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# The race detector needs cgo and a C compiler.
RACE     := $(shell [ "$$(go env CGO_ENABLED)" = 1 ] && command -v $$(go env CC) >/dev/null && echo -race)
FUZZTIME ?= 10m

# Every module, whether go.work ties it in or not; testdata and hidden folders are not ours to build.
MODULES := $(shell find . -name go.mod -not -path '*/testdata/*' -not -path '*/.*/*' | sed 's|/go.mod$$||' | sort)

.PHONY: help test crash order check fmt vet staticcheck tidy house alone scale bench noisy fuzz deps
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Tests that run side by side mostly wait for other processes: hence four at once, also on two cores.
test: ## every test of every module; at the end what was skipped, and how to get what it needs
	@[ -n "$(RACE)" ] || echo "no C compiler: testing without the race detector"
	go run ./internal/gotest $(RACE) -parallel 4 -timeout 18m work
	[ -z "$(RACE)" ] || (cd internal/dbtest && go run ../gotest -timeout 15m -run '^TestConformanceOfDrivers$$' -skip '/.*/^(Random|Concurrent)' .)

# TestCrash alone does it once at each point, in `make test`.
crash: ## kill -9 under load: WEBHOOK_CRASH times (100) at each named point, then at any moment for WEBHOOK_CRASH_TIME (5m)
	cd internal/dbtest && WEBHOOK_CRASH=$${WEBHOOK_CRASH:-100} WEBHOOK_CRASH_TIME=$${WEBHOOK_CRASH_TIME:-5m} \
		go test -v -count=1 -timeout 6h -run '^TestCrash|^TestDatabaseRestart$$' .

order: ## order at full size: 100 keys of 40 events while processes are killed, and one key with 100,000 waiting
	cd internal/dbtest && WEBHOOK_ORDER=full WEBHOOK_SCALE=full go test -v -count=1 -timeout 1h -run '^TestProcessesKeepOrder|^TestLongKeySlowsNoOther$$' .

check: fmt vet staticcheck tidy house alone ## all that CI checks, but for the tests with the race detector

fmt: ## formatting; prints what gofmt would change
	@files=$$(gofmt -l .); if [ -n "$$files" ]; then gofmt -d $$files; exit 1; fi

vet: ## go vet over the workspace
	go vet work

staticcheck: ## staticcheck over the workspace, at the version in .ci/tools.mod
	@bin=$$(GOWORK=off go tool -modfile=.ci/tools.mod -n staticcheck); echo staticcheck work; "$$bin" work

tidy: ## each go.mod and go.sum is as `go mod tidy` leaves it
	@for m in $(MODULES); do echo "go mod tidy -diff ($$m)"; (cd $$m && GOWORK=off go mod tidy -diff); done

house: ## the rules of the house: requirements, imports, names, sizes, doc comments
	go test -run '^TestHouse' .

# The root's tests run here as its importers have it. The others are built up to their test programs; what they test
# does not depend on the workspace, and `make test` runs it.
alone: ## each module by itself, as its importers get it (GOWORK=off)
	@for m in $(MODULES); do \
		run='^$$'; [ "$$m" = . ] && run=.; \
		echo "GOWORK=off go build, vet and test ($$m)"; \
		(cd $$m && export GOWORK=off && go build ./... && go vet ./... && go test -short -run "$$run" ./...); \
	done

scale: ## what claims and lists read among 1,000,000 waiting deliveries; `make test` does 100,000
	cd internal/dbtest && WEBHOOK_SCALE=full go test -v -timeout 30m -run 'NoBacklogIsRead$$' .
	WEBHOOK_SCALE=full go test -v -timeout 30m -run 'HangingEndpointsKeepP99' .

# On two cores some 35 minutes, of which noisy takes 17; with nothing else on the machine, and never more than the 2 h of -limit.
# BENCHFLAGS='-only dispatch,peers' takes 8. -svg DIR makes pictures, -json FILE keeps all figures.
bench: ## benchmarks of every module in the workspace, then ours, its peers and the limits side by side (BENCHFLAGS for its flags)
	go test -run '^$$' -bench . -benchmem work
	@if [ -f bench/go.mod ]; then cd bench && GOWORK=off go run . $(BENCHFLAGS); fi

noisy: ## p99 of healthy deliveries beside endpoints that hang, with up to 1,000,000 waiting, on each store; some 30 minutes
	cd bench && GOWORK=off go run . -only noisy,million $(BENCHFLAGS)

fuzz: ## each fuzz target for FUZZTIME (default 10m)
	@targets=$$(grep -roE --include='*_test.go' '^func Fuzz\w+' . | sed 's/:func / /' || true); \
	[ -n "$$targets" ] || { echo "no fuzz target yet"; exit 0; }; \
	while read -r file target; do \
		echo "$$target in $$(dirname $$file) for $(FUZZTIME)"; \
		go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$(dirname $$file)"; \
	done <<<"$$targets"

deps: ## the database servers that tests start for themselves (Debian, as root)
	.ci/deps
