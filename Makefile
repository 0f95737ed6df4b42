# Targets of fhir-cdc. `make` lists them.
# Everything that is downloaded or built for later is kept in $(CACHE), outside
# the repository.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO ?= go
CACHE := $(or $(FHIR_CDC_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/fhir-cdc)
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# The linter's version is pinned: a newer one finds other things.
LINT_VERSION := v2.15.0
LINT := $(CACHE)/bin/golangci-lint-$(LINT_VERSION)

# What `go test` runs; e.g. make test PKG=./mapper/... ARGS='-run Export -v'
PKG ?= ./...
ARGS ?=
# Tests whose libraries (Helm, the Kubernetes API, Prometheus) would burden the daemon's
# own go.mod are modules of their own.
NESTED = $(shell git ls-files '*/go.mod' | xargs -rn1 dirname)
# One seed for all random choices of a run, printed, so that a run can be
# repeated: make test SEED=...
ifndef SEED
SEED := $(shell date +%s)
endif
# One package at a time: most start servers of their own, and tests that wait for
# each other's servers on two cores prove nothing.
PACKAGES_AT_ONCE ?= 1
FUZZ_TIME ?= 60s
SOAK_TIME ?= 1h

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Show a short FHIR history become Kafka records (DEMO_EXIT=1: end by itself)
	@$(GO) run ./test/demo

.PHONY: build
build: ## Build bin/fhir-cdc
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/fhir-cdc ./cmd/fhir-cdc

.PHONY: test
test: ## Run all tests, with the race detector, against real servers (ARGS=-short: the quick ones)
	@echo "seed $(SEED) (repeat with: make test SEED=$(SEED))"
	@# The race detector slows the fault tests' own bookkeeping down, which would be what
	@# they measure; the daemon that they run is built without it anyway. Most of their
	@# time they wait, so more of them run at once than there are processors.
	@export FHIR_CDC_TEST_SEED=$(SEED); packages=$$($(GO) list $(PKG)); status=0; \
	raced=$$(grep -v '/test/faults$$' <<<"$$packages" || true); plain=$$(grep '/test/faults$$' <<<"$$packages" || true); \
	if [ -n "$$raced" ]; then $(GO) test -race -p $(PACKAGES_AT_ONCE) -timeout 20m $(ARGS) $$raced || status=1; fi; \
	if [ -n "$$plain" ]; then $(GO) test -parallel 6 -timeout 20m $(ARGS) $$plain || status=1; fi; \
	if [ '$(PKG)' = ./... ]; then for dir in $(NESTED); do (cd $$dir && $(GO) test -timeout 20m $(ARGS) ./...) || status=1; done; fi; \
	exit $$status

.PHONY: lint
lint: $(LINT) ## Check format, code rules and go.mod
	@for dir in . $(NESTED); do (set -x; cd $$dir; $(LINT) run; $(GO) mod tidy -diff); done

.PHONY: fmt
fmt: $(LINT) ## Format the code as lint wants it
	$(LINT) fmt

$(LINT):
	mkdir -p $(@D)
	tmp=$$(mktemp -d $(@D)/build.XXXX); trap "rm -rf $$tmp" EXIT; \
	GOFLAGS= GOBIN=$$tmp $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION); \
	mv $$tmp/golangci-lint $@

.PHONY: bench
bench: ## Measure throughput, latency and memory (docs/benchmarks.md)
	$(GO) run ./test/bench $(ARGS)

.PHONY: fuzz
fuzz: ## Run every fuzz test for FUZZ_TIME each (60s)
	@for dir in $$(grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -rn1 dirname | sort -u); do \
	  for f in $$(grep -rhoE '^func Fuzz[A-Za-z0-9_]*' --include='*_test.go' $$dir | awk '{print $$2}' | sort -u); do \
	    echo "$$dir $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x $$dir; \
	  done; \
	done

.PHONY: kubernetes
kubernetes: ## Render deploy/kubernetes.yaml from the Helm chart
	cd deploy/test && $(GO) test -count=1 -run TestManifestIsTheChart ./... -args -update

.PHONY: soak
soak: ## Run the endurance tests for SOAK_TIME (1h)
	@echo "seed $(SEED) (repeat with: make soak SEED=$(SEED))"
	FHIR_CDC_TEST_SEED=$(SEED) FHIR_CDC_TEST_SOAK=$(SOAK_TIME) $(GO) test -count=1 -v -timeout 0 -run '^TestSoak' $(ARGS) ./test/...

.PHONY: services
services: ## Keep a MongoDB and a Kafka running for tests; prints the variables to set
	@$(GO) run ./test/services/cmd/services $(ARGS)

.PHONY: clean
clean: ## Delete what was built here (not the cache)
	rm -rf bin dist
