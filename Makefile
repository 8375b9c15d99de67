# Everything the project needs is installed into .venv by the targets themselves.
PYTHON := $(firstword $(foreach name,python3.11 python3.12 python3.13 python3.14 python3,$(if $(shell command -v $(name) 2>/dev/null),$(name))))
BIN := .venv/bin
# Most tests wait for servers rather than for a processor.
WORKERS ?= 6
# How many times as many cases as in `test` the targets below try.
FUZZ ?= 50
# How long the soaks look, in seconds; each has a default of its own.
SOAK_SECONDS ?=
# What builds the image, and what it is called.
DOCKER ?= docker
IMAGE ?= secretbinding
# The Python image that it is made from, NAME:TAG@sha256:DIGEST; the Dockerfile's own when left out.
BASE ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-e2e fuzz soak soak-survival bench bench-rotation lint types imports unit crd chart policies format lock audit sbom image docs kustomize clean

help: ## Show the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

.venv/.ready: pyproject.toml tests/requirements.txt
	@test -n "$(PYTHON)" || { echo "no python3 found: install Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, $(PYTHON) is older" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing into .venv ..."
	@rm -rf .venv
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: .venv/.ready ## A secret reaches a Nomad job, rotates, rolls, and rolls back; on real servers
	@$(BIN)/secretbinding demo

test: lint types imports unit ## All checks and all tests

lint: .venv/.ready ## Style and formatting
	@$(BIN)/ruff check controller tests charts
	@$(BIN)/ruff format --check controller tests charts

types: .venv/.ready ## Types
	@$(BIN)/mypy

imports: .venv/.ready ## Which module may import which
	@$(BIN)/lint-imports

unit: .venv/.ready ## All tests; those that need a binary that is not there say so and skip
	@$(BIN)/pytest -n $(WORKERS) --dist loadgroup

test-e2e: .venv/.ready ## Only the tests against a real Nomad and a real Kubernetes API server
	@$(BIN)/pytest -n $(WORKERS) --dist loadgroup -m "real_nomad or real_kubernetes"

fuzz: .venv/.ready ## That nothing breaks out: many thousand cases, others each time; 20 minutes (FUZZ=50 times as many as in test)
	@SECRETBINDING_FUZZ=$(FUZZ) $(BIN)/pytest -n 2 -o timeout=0 tests/unit/core/test_escape_proof.py tests/unit/core/test_escaping.py tests/unit/tenancy

soak: .venv/.ready ## Mixed work with faults on real servers for an hour (SOAK_SECONDS), then many histories with kills (FUZZ)
	@SOAK_SECONDS=$(SOAK_SECONDS) $(BIN)/pytest tests/soak/mixed.py -q -s -o timeout=0
	@SECRETBINDING_FUZZ=$(FUZZ) $(BIN)/pytest -n 2 -o timeout=0 tests/unit/engine/test_turmoil.py tests/unit/fuzz

soak-survival: .venv/.ready ## What running tasks survive, on a real Nomad and OpenBao; 20 minutes (SOAK_SECONDS)
	@SOAK_SECONDS=$(SOAK_SECONDS) $(BIN)/pytest tests/soak/survival.py -q -s -o timeout=0

bench: .venv/.ready ## What the controller costs beside a client that makes only the unavoidable calls; 2 hours (BENCH="--sizes 100 --runs 1": minutes)
	@$(BIN)/python -m tests.performance.bench --json build/bench.json $(BENCH)

bench-rotation: .venv/.ready ## Time from a write in Vault to the job and to its last new allocation
	@$(BIN)/python -m tests.performance.rotation_latency --json build/rotation-latency.json

crd: .venv/.ready ## Generate crds/ from the model
	@$(BIN)/python -m secretbinding.models.crd > crds/nomad-vault.io_secretbindings.yaml
	@$(BIN)/python -m secretbinding.models.crd secretbindingpolicies > crds/nomad-vault.io_secretbindingpolicies.yaml

chart: crd ## Generate the chart's schema, tables and definitions
	@$(BIN)/python charts/generate.py

policies: .venv/.ready ## Generate the controller's policies in deploy/
	@$(BIN)/python -m secretbinding.ops.shipped deploy

format: .venv/.ready ## Format the code
	@$(BIN)/ruff check --fix controller tests charts
	@$(BIN)/ruff format controller tests charts

lock: .venv/.ready ## Pin all dependencies anew, with hashes and without any index address
	@$(BIN)/pip-compile --quiet --strip-extras --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --allow-unsafe --no-header --extra otel -o deploy/requirements.txt pyproject.toml
	@$(BIN)/pip-compile --quiet --strip-extras --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --allow-unsafe --no-header --extra dev --extra devstack --extra otel -o tests/requirements.txt pyproject.toml
	@$(BIN)/pip-compile --quiet --strip-extras --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --allow-unsafe --no-header --only-build-deps --build-deps-for wheel -o deploy/image/build-requirements.txt pyproject.toml

audit: .venv/.ready ## Refuse the Python packages of the image when a weakness of one is known (asks the package index, or OSV)
	@$(BIN)/pip-audit --strict --require-hashes --disable-pip --progress-spinner off -r deploy/requirements.txt

sbom: .venv/.ready ## The Python packages of the image, as CycloneDX, in build/sbom.cdx.json
	@mkdir -p build
	@$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --mc-type application --output-reproducible --of JSON -o build/sbom.cdx.json deploy/requirements.txt

image: audit sbom ## Build the image, with its bill of materials, Python and system libraries included, in it; nothing is built on a known weakness
	@$(DOCKER) build $(if $(BASE),--build-arg PYTHON=$(BASE)) -f deploy/image/Dockerfile -t $(IMAGE) .

kustomize: .venv/.ready ## Make deploy/kustomize/base from the chart
	@$(BIN)/python deploy/kustomize/render.py deploy/kustomize/base/controller.yaml

docs: .venv/.ready ## The pages as a site, in build/site
	@$(BIN)/sphinx-build -q -n -W --keep-going -b html -c deploy/site . build/site

clean: ## Remove what the targets made
	@rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
