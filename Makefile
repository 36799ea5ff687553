# Everything a checkout needs. `make up` and `make test` do all the set-up themselves; `make` alone lists the targets.

PYTHON ?= python3
CONFIG ?=
WITH_CONFIG := $(if $(CONFIG),--config '$(CONFIG)')
BIN := .venv/bin
BOOTSTRAP := $(PYTHON) -m cluster.bootstrap
# Pytest's fifth exit status means that no test ran; make fails on it as on any other.
PYTEST := $(BIN)/python -m pytest
# Two at a time, a file to a process, what only computes; what starts real parts or measures has the machine to itself.
TOGETHER := -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help up down status logs demo chat test test-all lint format proto chart dashboards lock image clean preflight

help: ## list the targets
	@echo "Longreach. Variables: PYTHON=python3.11, CONFIG=file.yaml, LONGREACH_PIP_ARGS='--extra-index-url …'"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: ## set everything up, start a cluster here, ask the model one question
	@$(BOOTSTRAP) $(if $(CONFIG),--own-ports)
	@$(BIN)/longreach up $(WITH_CONFIG)

down: ## stop the cluster and everything it started
	@if [ -x $(BIN)/longreach ]; then $(BIN)/longreach down $(WITH_CONFIG); else echo "nothing was installed here, so nothing runs"; fi

status: ## pools, replicas, load
	@$(BIN)/longreach status $(WITH_CONFIG)

logs: ## the log of POOL=name, or of the gateway, ray, redis
	@$(BIN)/longreach logs $(or $(POOL),gateway) $(WITH_CONFIG)

demo: ## 60 seconds that show what the pools and the prefix cache do
	@$(BIN)/longreach demo $(WITH_CONFIG)

chat: ## talk to the model
	@$(BIN)/longreach chat $(WITH_CONFIG)

test: ## the tests, real Valkey, Ray and vLLM included (about half an hour on 2 cores)
	@$(BOOTSTRAP) --own-ports
	$(PYTEST) -m "not slow and not integration and not alone" $(TOGETHER)
	$(PYTEST) -m "not slow and (integration or alone)" --durations=40

test-all: ## and the slow ones
	@$(BOOTSTRAP) --own-ports
	$(PYTEST) -m "not integration and not alone" $(TOGETHER)
	$(PYTEST) -m "integration or alone"

lint: ## ruff, mypy, import-linter
	@$(BOOTSTRAP) --no-cluster
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: ## rewrite to the house style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

proto: ## compile services/grpc/proto anew into services/grpc/generated
	@$(BOOTSTRAP) --no-cluster
	$(BIN)/python -m services.grpc.generate

chart: ## write the chart's generated files: values.schema.json, the table in its README
	@$(BOOTSTRAP) --no-cluster
	$(BIN)/python -m cluster.kubernetes.chart

dashboards: ## write the chart's Grafana dashboards and alert rules from cluster/kubernetes/monitoring
	@$(BOOTSTRAP) --no-cluster
	$(BIN)/python -m cluster.kubernetes.monitoring

preflight: ## only look at this machine
	@$(BOOTSTRAP) --check

lock: ## pin locks/*.txt anew from locks/*.in
	@$(PYTHON) locks/compile.py

image: ## build the engine's (CPU) and the gateway's image; IMAGE_ARGS='…' as in docs/image.md
	@$(PYTHON) deploy/image/build.py $(IMAGE_ARGS)

clean: down ## stop the cluster and remove the environment and caches; models stay
	rm -rf .venv .venv.lock build dist *.egg-info tests/node/node_modules tests/node/generated .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
