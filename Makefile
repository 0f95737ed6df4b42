# Targets of fhir-cdc. `make` lists them.
# Everything that is downloaded or built for later is kept in $(CACHE), outside
# the repository.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO ?= go
CACHE := $(or $(FHIR_CDC_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/fhir-cdc)
# A Go that `make setup` installed; programs that call go find it too.
export PATH := $(CACHE)/go/bin:$(PATH)
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# The linter's version is pinned: a newer one finds other things.
LINT_VERSION := v2.15.0
LINT := $(CACHE)/bin/golangci-lint-$(LINT_VERSION)

# Tools of a release, pinned for the same reason.
GORELEASER_VERSION := v2.15.1
GORELEASER := $(CACHE)/bin/goreleaser-$(GORELEASER_VERSION)
CYCLONEDX_VERSION := v1.10.0
CYCLONEDX := $(CACHE)/bin/cyclonedx-gomod-$(CYCLONEDX_VERSION)/cyclonedx-gomod
IMAGE := fhir-cdc/fhir-cdc
# Without BuildKit an engine builds for its own platform only: IMAGE_ARCHS=amd64.
IMAGE_ARCHS ?= amd64 arm64
GOVULNCHECK_VERSION := v1.9.0
GOVULNCHECK := $(CACHE)/bin/govulncheck-$(GOVULNCHECK_VERSION)
DEADCODE_VERSION := v0.52.0
DEADCODE := $(CACHE)/bin/deadcode-$(DEADCODE_VERSION)

# What `go test` runs; e.g. make test PKG=./mapper/... ARGS='-run Export -v'
PKG ?= ./...
ARGS ?=
# The MongoDB to test with, where a Docker engine can pull it: make test MONGO_IMAGE=mongo:9
ifdef MONGO_IMAGE
export FHIR_CDC_TEST_MONGODB_IMAGE := $(MONGO_IMAGE)
endif
# Tests whose libraries (Helm, the Kubernetes API, Prometheus, CloudEvents) would burden the daemon's
# own go.mod are modules of their own.
NESTED = $(shell git ls-files '*/go.mod' | xargs -rn1 dirname)
# The one whose tests measure time.
ALONE = test/alerts
# One seed for all random choices of a run, printed, so that a run can be
# repeated: make test SEED=...
ifndef SEED
SEED := $(shell date +%s)
endif
# Tests wait most of their time, for elections, time limits and servers that start; the
# table in CONTRIBUTING.md says which. So more run at once than there are processors.
PACKAGES_AT_ONCE ?= 2
TESTS_AT_ONCE ?= 8
FUZZ_TIME ?= 60s
SOAK_TIME ?= 1h

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# What the machine is set up for: demo or test.
FOR ?= demo
.PHONY: setup
setup: ## Install what this machine lacks for make demo (FOR=test: for make test), or say how
	@test/setup/setup.sh install $(FOR)

# The one set of flags, so that no dependency is compiled twice. The tags are explained in the
# Dockerfile.
FLAGS = -trimpath -tags=grpcnotrace,nethttpomithttp2
BUILD = CGO_ENABLED=0 $(GO) build $(FLAGS) -ldflags '-s -w -X main.version=$(VERSION)'

.PHONY: demo
demo: ## Show a short FHIR history become Kafka records (DEMO_EXIT=1: end by itself)
	@# At a terminal it is a job of its own: Ctrl-C is then for the demo, which ends with 0, and
	@# not for make, which would end by the signal.
	@if [ -t 2 ]; then set -m; test/demo/demo.sh $(BUILD) || exit; else exec test/demo/demo.sh $(BUILD); fi

.PHONY: build
build: ## Build bin/fhir-cdc
	$(BUILD) -o bin/fhir-cdc ./cmd/fhir-cdc

.PHONY: man
man: ## Write the man pages into bin/man
	$(GO) run ./cmd/fhir-cdc man bin/man

# The linter vets, which is a quarter of the work after a change. No debugger looks at these
# programs, and linking is a third cheaper without what it would need.
LEAN = -vet=off -ldflags=-w
TEST = CGO_ENABLED=0 $(GO) test $(LEAN) $(FLAGS)

.PHONY: test
test: ## Run all tests, with the race detector, against real servers (ARGS=-short: those that need none)
ifneq ($(filter -short,$(ARGS)),)
	@# For each change: no server, no race detector, as many packages at once as there are processors.
	@status=0; $(TEST) $(ARGS) $(PKG) || status=1; \
	if [ '$(PKG)' = ./... ]; then for dir in $(NESTED); do (cd $$dir && $(TEST) $(ARGS) ./...) || status=1; done; fi; \
	exit $$status
else
	@test/setup/setup.sh check test
	@echo "seed $(SEED) (repeat with: make test SEED=$(SEED))"
	@# The fault tests run beside all others, without the race detector: it slows their own
	@# bookkeeping down, which would be what they measure, and the daemon that they run is
	@# built without it anyway. Nor can it be there where memory is measured. The longest
	@# packages are the last by name, so they go first. Measures and modules of their own run
	@# beside both. The alerts of test/alerts are in stretched time, so they come last and alone.
	@export FHIR_CDC_TEST_SEED=$(SEED); packages=$$($(GO) list $(PKG) | sort -r); status=0; \
	matching() { grep "$$@" <<<"$$packages" || true; }; \
	plain() { [ $$# -eq 0 ] || $(TEST) -parallel $(TESTS_AT_ONCE) -timeout 45m $(ARGS) "$$@"; }; \
	raced() { [ $$# -eq 0 ] || $(GO) test $(LEAN) -race -p $(PACKAGES_AT_ONCE) -parallel $(TESTS_AT_ONCE) -timeout 45m $(ARGS) "$$@"; }; \
	measured() { [ $$# -eq 0 ] || $(TEST) -run 'Memory|Instructions' $(ARGS) "$$@"; }; \
	nested() { [ '$(PKG)' != ./... ] || (cd $$1 && $(TEST) -timeout 20m $(ARGS) ./...); }; \
	small() { \
	  local status=0; \
	  measured $$(matching -E '/(verify|repair|mapper|publisher|daemon)$$') || status=1; \
	  for dir in $(filter-out $(ALONE),$(NESTED)); do nested $$dir || status=1; done; \
	  return $$status; \
	}; \
	plain $$(matching '/test/faults$$') & faults=$$!; \
	small & small=$$!; \
	raced $$(matching -v '/test/faults$$') || status=1; \
	wait $$faults || status=1; \
	wait $$small || status=1; \
	for dir in $(ALONE); do nested $$dir || status=1; done; \
	exit $$status
endif

.PHONY: lint
lint: $(LINT) $(DEADCODE) ## Check format, code rules, go.mod, and that the program calls all of its code
	@for dir in . $(NESTED); do (set -x; cd $$dir; CGO_ENABLED=0 GOFLAGS='$(FLAGS)' $(LINT) run; $(GO) mod tidy -diff); done
	@dead=$$($(DEADCODE) -tags faultpoints ./cmd/fhir-cdc); [ -z "$$dead" ] || { echo "$$dead"; exit 1; }
	@git ls-files '*.go' | xargs wc -l | awk '$$1 > 500 && $$2 != "total" {print "warning: " $$2 " has " $$1 " lines: is it one subject?"}'

.PHONY: fmt
fmt: $(LINT) ## Format the code as lint wants it
	$(LINT) fmt

.PHONY: bench
bench: ## Measure throughput, latency and memory (docs/benchmarks.md; PEERS=1: other connectors too)
	@mkdir -p bin
	$(GO) run ./test/bench $(if $(PEERS),-peers -chart bin/peers.svg) $(ARGS)

.PHONY: fuzz
fuzz: ## Run every fuzz test for FUZZ_TIME each (60s)
	@for dir in $$(grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -rn1 dirname | sort -u); do \
	  for f in $$(grep -rhoE '^func Fuzz[A-Za-z0-9_]*' --include='*_test.go' $$dir | awk '{print $$2}' | sort -u); do \
	    echo "$$dir $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x $$dir; \
	  done; \
	done

.PHONY: docs
docs: ## Write what is made from code or tables: config.yaml, configuration.md, metrics.md, docs/contract, keys in the chart's schema, peers.svg
	$(GO) test -count=1 -run 'TestConfigYAML$$|TestConfigurationIsDocumented|TestChartKnowsEveryKey' ./config -args -update
	$(GO) test -count=1 -run TestMetricsAreDocumented ./installation -args -update
	$(GO) test -count=1 -run 'TestContractIsMade|TestPagesHaveTheKinds' ./test/contract -args -update
	$(GO) test -count=1 -run TestChartIsTheTable ./test/bench -args -update

.PHONY: pictures
pictures: ## Take the pictures of commands and of the status page for docs anew
	$(GO) test -count=1 -run TestPictures ./test/pictures -args -update
	FHIR_CDC_TEST_SCREENSHOTS=$(CURDIR)/bin/screenshots CI=true $(GO) test -count=1 -run TestStates/well ./test/statuspage
	cp bin/screenshots/state-well-light.png docs/images/status-page.png

.PHONY: kubernetes
kubernetes: ## Render deploy/kubernetes.yaml from the Helm chart
	cd deploy/test && $(GO) test -count=1 -run TestManifestIsTheChart ./... -args -update

.PHONY: soak
soak: ## Run the endurance tests for SOAK_TIME (1h)
	@echo "seed $(SEED) (repeat with: make soak SEED=$(SEED))"
	FHIR_CDC_TEST_SEED=$(SEED) FHIR_CDC_TEST_SOAK=$(SOAK_TIME) $(GO) test -count=1 -v -timeout 0 -run '^TestSoak' $(ARGS) ./...

.PHONY: services
services: ## Keep a MongoDB and a Kafka running for tests; prints the variables to set
	@$(GO) run ./test/services/cmd/services $(ARGS)

.PHONY: vulncheck
vulncheck: $(GOVULNCHECK) ## Look for known vulnerabilities in what the program calls
	@# The database is on the network. Out of reach is not the same as nothing found, so
	@# that fails too.
	@$(GOVULNCHECK) ./... || { code=$$?; \
	  [ $$code -eq 3 ] || echo "govulncheck could not look: it needs Go's vulnerability database (GOVULNDB names another one)" >&2; exit $$code; }

.PHONY: release-check
release-check: $(GORELEASER) ## Check .goreleaser.yaml
	$(GORELEASER) check

.PHONY: release-snapshot
release-snapshot: $(GORELEASER) $(CYCLONEDX) ## Build a release's archives into dist/, publishing nothing
	PATH="$(dir $(CYCLONEDX)):$$PATH" $(GORELEASER) release --snapshot --clean

.PHONY: release-images
release-images: ## Build the images around the binaries in dist/ (PUSH=1: publish them; needs a docker login)
	@version=$$(sed -E 's/.*"version":"([^"]+)".*/\1/' dist/metadata.json); \
	mkdir -p dist/image/data dist/image/scratch/tmp; chmod 1777 dist/image/scratch/tmp; docker run --rm golang:1.26 cat /etc/ssl/certs/ca-certificates.crt >dist/image/ca-certificates.crt; \
	for arch in $(IMAGE_ARCHS); do \
	  mkdir -p dist/image/linux/$$arch; cp dist/fhir-cdc_linux_$${arch}_*/fhir-cdc dist/image/linux/$$arch/; \
	  (set -x; BUILDX_NO_DEFAULT_ATTESTATIONS=1 docker build -q -f deploy/release.Dockerfile --platform linux/$$arch -t $(IMAGE):$$version-$$arch \
	    --build-arg TARGETPLATFORM=linux/$$arch \
	    --build-arg VERSION=$$version --build-arg REVISION=$$(git rev-parse HEAD) dist/image); \
	done; \
	[ -n '$(PUSH)' ] || exit 0; \
	for arch in $(IMAGE_ARCHS); do docker push $(IMAGE):$$version-$$arch; done; \
	for tag in $$version $$(grep -qE '^[0-9]+\.[0-9]+\.[0-9]+$$' <<<"$$version" && echo "$${version%.*} latest"); do \
	  docker manifest create $(IMAGE):$$tag $(addprefix $(IMAGE):$$version-,$(IMAGE_ARCHS)); docker manifest push $(IMAGE):$$tag; \
	done

.PHONY: release
release: $(GORELEASER) $(CYCLONEDX) ## Publish the tagged commit (needs GITHUB_TOKEN and a docker login)
	PATH="$(dir $(CYCLONEDX)):$$PATH" $(GORELEASER) release --clean
	$(MAKE) release-images PUSH=1

.PHONY: image
image: ## Build the container image fhir-cdc
	docker build --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) -t fhir-cdc .

# $(call install,TARGET,PACKAGE@VERSION) builds a command into the cache; it appears there
# only when it is complete.
define install
mkdir -p $(dir $(1))
tmp=$$(mktemp -d $(dir $(1))build.XXXX); trap "rm -rf $$tmp" EXIT; \
GOFLAGS= GOBIN=$$tmp $(GO) install $(2); \
mv $$tmp/* $(1)
endef

$(LINT):
	$(call install,$@,github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION))
$(GORELEASER):
	$(call install,$@,github.com/goreleaser/goreleaser/v2@$(GORELEASER_VERSION))
$(CYCLONEDX):
	$(call install,$@,github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@$(CYCLONEDX_VERSION))
$(GOVULNCHECK):
	$(call install,$@,golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION))

$(DEADCODE):
	$(call install,$@,golang.org/x/tools/cmd/deadcode@$(DEADCODE_VERSION))

.PHONY: clean
clean: ## Delete what was built here (not the cache)
	rm -rf bin dist
