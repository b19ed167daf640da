# What a newcomer types: make demo, make test. Every target brings up what it needs and is quick the second time.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help engine images

help: ## this list
	@awk -F':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

engine: ## a Docker engine that answers; installed from Debian's packages if there is none and you are root
	@PYTHON=$(PYTHON) sh images/prepare engine

images: engine $(BIN)/.made ## the images usermode/base and usermode/dev, and init
	@$(BIN)/python -m harness image build

$(BIN)/.made: pyproject.toml constraints.txt
	@PYTHON=$(PYTHON) sh images/prepare python
	@echo "making .venv"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
