# Every target sets up what it needs; a second run installs nothing. `make help` lists them.
# PROFILE=cpu or PROFILE=gpu forces the profile; otherwise an answering NVIDIA driver chooses gpu.

SHELL := /bin/bash
PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest
export PROFILE ?=

.DEFAULT_GOAL := help
.PHONY: help setup model node demo run test test-long lint proto lock lock-check-gpu clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## build .venv from the lock file
	@deploy/setup.sh

model: setup ## convert the default model into the user cache
	@$(PYTHON) -m deploy.fetch_model

demo: setup model ## the whole loop with simulated people; 15 minutes or so
	@$(PYTHON) -m deploy.demo

run: setup model ## serve and learn on embedded defaults (LOG=kafka: with a local broker); Ctrl-C drains
	@$(PYTHON) -m deploy.run $(if $(LOG),--log $(LOG))

test: setup model ## the suite, at most 10 minutes on 2 cores
	@$(PYTEST) -m "not slow and not gpu"

test-long: setup model ## slow statistics, fault and learning runs, at most 40 minutes
	@$(PYTEST) -m "slow and not gpu"

node: setup
	@$(PYTHON) -m deploy.setup_node

lint: setup node ## ruff, pyright, buf, import layers, freshness of generated code
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	node_modules/.bin/buf lint
	$(PYTEST) -q tests/architecture
	node_modules/.bin/pyright

proto: setup ## generate heliotrope/v1 from proto/
	@$(PYTHON) -m deploy.gen_proto

lock: setup ## resolve deploy/lock/*.in again into the lock files
	@$(PYTHON) -m deploy.resolve cpu
	@$(PYTHON) -m deploy.resolve gpu

lock-check-gpu: setup ## show that the GPU lock resolves (metadata only)
	@$(PYTHON) -m deploy.resolve --check gpu

clean: ## remove what set-up made here (not the model in the user cache)
	rm -rf .venv node_modules
