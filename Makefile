# `make demo` and `make test` do all set-up themselves; `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo up down logs test test-broker chaos chaos-ci soak check format deploy-tools dashboards rules pictures image-check audit sbom lock clean

PYTHON ?= python3
# Name an index of CPU wheels of PyTorch here to download 2.6 GB less: make setup TORCH_INDEX=...
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
UV := $(CURDIR)/.tools/bin/uv
UV_ENV = PYTHONPATH= VIRTUAL_ENV=$(CURDIR)/$(VENV)
CODE := ingest windowing inference service training benchmarks deploy tests
CUDA_PACKAGES := torch|triton|nvidia-|cuda-

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.complete  ## install what is pinned into .venv

demo: setup  ## broker, worker and replay for about a minute, with a live table
	$(BIN)/stridecast demo --seconds 60

# The stack's own variables, for instance COMPOSE_PROFILES, stand in deploy/.env.
COMPOSE = $(if $(TORCH_INDEX),TORCH_INDEX="$(TORCH_INDEX)") docker compose -f deploy/compose.yaml \
	$(if $(GPU),-f deploy/compose.gpu.yaml) $(if $(KEEP),-f deploy/compose.keep.yaml)
up:  ## Kafka, both workers, devices, Prometheus and Grafana in Docker; TORCH_INDEX=... for a small image, GPU=1 or KEEP=1
	$(if $(and $(GPU),$(KEEP)),$(error KEEP=1 is for CPUs: deploy/README.md says how to keep windows beside a GPU))
	$(COMPOSE) up --build --detach
	@echo "Grafana: http://127.0.0.1:3000   the activity worker's live view: http://127.0.0.1:9464   Kafka: 127.0.0.1:9092"

down:  ## stop and remove them; Kafka's topics and Prometheus' series stay (docker volume rm ... for those, too)
	$(COMPOSE) --profile '*' down

logs:  ## what they say
	$(COMPOSE) --profile '*' logs --follow --tail 100

# Three processes on two cores: tests on Kafka wait most of their time.
TESTERS := 3
test: setup  ## the whole suite; what the machine lacks is skipped, with the reason
	$(BIN)/pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder $(PYTEST)

# What the tests of `stridecast broker` itself, of the demo and of the bench need is the version that ships.
SHIPPED := broker demo bench
KAFKA ?= 3.9.1
test-broker: setup  ## the tests on Kafka against another version of it, a few kills among them; KAFKA=3.9.1, see tests/kafka/versions
	TEST_KAFKA=$(KAFKA) REQUIRE_KAFKA=1 $(BIN)/pytest -n $(TESTERS) --dist loadfile tests/kafka \
		$(SHIPPED:%=--ignore tests/kafka/test_%.py) $(PYTEST)
	TEST_KAFKA=$(KAFKA) CHAOS_KILLS=10 CHAOS_SEED=5 $(BIN)/pytest -m chaos tests/chaos/test_kills.py -k 'exactly_once and killed'

pictures: setup  ## draw benchmarks/pictures from what benchmarks recorded
	$(BIN)/python -m benchmarks.pictures

dashboards: setup  ## make Grafana's dashboards anew from deploy/dashboards
	$(BIN)/python -m deploy.dashboards

rules: setup  ## make the Prometheus Operator's rules anew from deploy/prometheus/alerts.yaml
	$(BIN)/python -m deploy.rules

KILLS ?= 100
SEED ?=
CHAOS ?=
chaos: setup  ## every fault there is, a hundred kills among them; KILLS=10 SEED=7 CHAOS='-k killed' for some of it
	CHAOS_KILLS=$(KILLS) CHAOS_SEED=$(SEED) $(BIN)/pytest -m 'chaos or fault' $(CHAOS)

CI_FAULTS := exactly_once and (killed or scaling or whatever_its_bytes or others_come) and not silent and not broker \
	and not (cluster and not coordinates_the_group)
chaos-ci: setup  ## ten kills from a fixed seed, and a few quick faults: what CI runs of it, exactly once
	CHAOS_KILLS=10 CHAOS_SEED=5 $(BIN)/pytest -m chaos tests/chaos -k '$(CI_FAULTS)'

SECONDS ?= 3600
DELIVERY ?= exactly_once
CLUSTER ?=
soak: setup  ## random faults for an hour under steady load; SECONDS=600 SEED=7 DELIVERY=at_least_once, CLUSTER=1 for three brokers
	$(BIN)/python -m tests.chaos.soak --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) --delivery $(DELIVERY) $(if $(CLUSTER),--cluster)

check: setup  ## lint, format and types
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy

format: setup  ## put the code in order
	$(BIN)/ruff check --fix-only $(CODE)
	$(BIN)/ruff format $(CODE)

CHECKERS := tests/deploy/checkers
deploy-tools: .build/bin/prometheus .build/bin/compose-spec .build/bin/kustomize  ## what the tests of deploy/ run, built with Go

.build/bin/compose-spec: $(CHECKERS)/go.mod $(CHECKERS)/go.sum
	cd $(CHECKERS) && go build -o $(CURDIR)/$@ github.com/compose-spec/compose-go/v2/cmd

.build/bin/kustomize: $(CHECKERS)/go.mod $(CHECKERS)/go.sum
	cd $(CHECKERS) && go build -o $(CURDIR)/$@ sigs.k8s.io/kustomize/kustomize/v5

# Prometheus, promtool and a check of dashboards. Service discoveries but DNS and files are left out: they are most of what
# there is to compile, which takes minutes all the same, once.
PROGRAMS := tests/deploy/programs
PROMETHEUS := github.com/prometheus/prometheus/cmd
.build/bin/prometheus: $(PROGRAMS)/go.mod $(PROGRAMS)/go.sum $(PROGRAMS)/check-grafana/main.go
	cd $(PROGRAMS) && go build -ldflags '-s -w' -tags remove_all_sd,enable_dns_sd -o $(CURDIR)/.build/bin/ \
		$(PROMETHEUS)/prometheus $(PROMETHEUS)/promtool ./check-grafana
	@touch $@

image-check: setup  ## build the image and run it, with podman, where no Docker is; as root; REQUIRE_IMAGE=1 fails where it can't
	tests/deploy/image_check.sh

# Their own environment: what they need is no business of the program's. AUDIT_FLAGS='--vulnerability-service osv' asks another one.
AUDITORS := .build/auditors
AUDIT_FLAGS ?=
audit: $(AUDITORS)/.complete  ## known vulnerabilities of what constraints.txt pins; fails where none can be looked up
	$(AUDITORS)/bin/python deploy/audit.py $(AUDIT_FLAGS)

sbom: setup $(AUDITORS)/.complete  ## .build/sbom.json: what is installed in .venv, as CycloneDX
	$(AUDITORS)/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application \
		--output-reproducible --output-format JSON --output-file .build/sbom.json $(VENV)

$(AUDITORS)/.complete: requirements-audit.txt $(UV)
	@rm -rf $(AUDITORS)
	@$(UV) venv --quiet -p $(PYTHON) $(AUDITORS)
	@$(MIRROR) VIRTUAL_ENV=$(CURDIR)/$(AUDITORS) PYTHONPATH= $(UV) pip install --quiet --require-hashes -r $<
	@touch $@

# What `make setup` serves, and `make lock` finds packages for; macOS from 14 on.
PLATFORMS := x86_64-manylinux_2_28 aarch64-manylinux_2_28 aarch64-manylinux_2_35 aarch64-apple-darwin
KEPT = awk -v left_out="^($$left_out)" '/^[a-z]/ {keep = $$0 !~ left_out} keep' constraints.txt
LOCK = $(UV) pip compile -q --upgrade --universal --generate-hashes --no-emit-index-url --no-annotate --no-header -p 3.11
lock: $(UV)  ## pin the newest versions, with hashes
	$(LOCK) --all-extras pyproject.toml -o constraints.txt
	printf 'pip-audit>=2.10\ncyclonedx-bom>=7.5\n' | $(LOCK) - -o requirements-audit.txt
	mkdir -p .build; for platform in $(PLATFORMS); do for python in 3.11 3.14; do \
		left_out=nothing; [ $$platform != aarch64-manylinux_2_28 ] || left_out=openvino; $(KEPT) > .build/wanted.txt; \
		echo "Looking for all packages for $$platform and Python $$python, but for $$left_out"; \
		MACOSX_DEPLOYMENT_TARGET=14.0 $(UV) pip install -q --dry-run --require-hashes --only-binary :all: \
			--python-platform $$platform --python-version $$python --target .build/nowhere -r .build/wanted.txt || exit 1; \
	done; done

clean:  ## remove what set-up and tests left here
	rm -rf $(VENV) .tools .build .pytest_cache .mypy_cache .ruff_cache .hypothesis

define CHECK_PYTHON
@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' || \
	{ echo "The pinned packages are for Python 3.11 to 3.14; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.13"; exit 1; }
@$(PYTHON) -c 'import platform, sys; sys.exit((sys.platform, platform.machine()) == ("darwin", "x86_64"))' || \
	{ echo "$(PYTHON) is built for Intel Macs, for which PyTorch and Numba's compiler have no packages any more."; \
	  echo "On Apple silicon, name a Python for it: make PYTHON=/opt/homebrew/bin/python3. On an Intel Mac, use Docker: make up"; exit 1; }
endef

$(UV): requirements-uv.txt
	$(CHECK_PYTHON)
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || \
		{ echo "$(PYTHON) has no pip: install it (Debian: apt install python3-pip), then run make again"; exit 1; }
	@rm -rf .tools
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target .tools --require-hashes -r $<
	@touch $@

# The installer doesn't read pip's configuration: a mirror named there is handed on.
MIRROR = mirror=$$($(PYTHON) -m pip config get global.index-url 2>/dev/null); \
	if [ -n "$$mirror" ] && [ -z "$$UV_DEFAULT_INDEX" ]; then export UV_DEFAULT_INDEX="$$mirror"; fi;

# OpenVINO's packages for ARM need glibc 2.35, and Amazon Linux 2023 and RHEL 9 have 2.34: there the other engines serve.
OLD_ARM_LINUX = [ "$$(uname -sm)" = "Linux aarch64" ] && \
	getconf GNU_LIBC_VERSION | awk '{split($$2, part, "."); exit !(part[1] == 2 && part[2] < 35)}'

$(VENV)/.complete: constraints.txt pyproject.toml $(UV)
	$(CHECK_PYTHON)
	@if [ -n "$(TORCH_INDEX)" ]; then echo "Downloading about 0.5 GB (PyTorch's CPU wheels from your index), once."; \
	elif [ "$$(uname)" = Darwin ]; then echo "Downloading about 0.4 GB, once."; \
	else echo "Downloading about 3.1 GB (7 GB on disk, bytecode included), once: PyTorch's default wheels bring 2.3 GB of CUDA libraries on Linux."; \
	     echo "To do without them: make setup TORCH_INDEX=<address of an index of PyTorch's CPU wheels>"; fi
	@$(UV) venv --quiet --allow-existing -p $(PYTHON) $(VENV)
	@$(MIRROR) \
	export $(UV_ENV); mkdir -p .build; left_out="$(if $(TORCH_INDEX),$(CUDA_PACKAGES),nothing)"; \
	if $(OLD_ARM_LINUX); then left_out="$$left_out|openvino"; echo "Leaving out OpenVINO: its packages for ARM need glibc 2.35."; fi; \
	$(KEPT) > .build/wanted.txt && \
	$(UV) pip install --compile-bytecode --require-hashes -r .build/wanted.txt && \
	if [ -n "$(TORCH_INDEX)" ]; then \
		$(UV) pip install --compile-bytecode --no-deps --index-url "$(TORCH_INDEX)" "$$(grep -o '^torch==[^ ]*' constraints.txt)"; fi && \
	$(UV) pip install --quiet --no-deps --no-build-isolation -e .
	@echo "Compiling the hot path, once."
	@$(BIN)/python -m service.hot_path
	@touch $@
