# What a newcomer types: make demo, make test. Every target brings up what it needs and is quick the second time.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo demo-crash test check bench soak fuzz walls engine images clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: images ## an agent mends a real bug, contained (MODEL=provider:model plays it live, BASE_URL=… names its service)
	@PYTHON=$(BIN)/python docs/demo/run $(MODEL)

demo-crash: images ## a harness is killed in the middle of a command; the session goes on, and nothing happens twice
	@PYTHON=$(BIN)/python docs/demo/crash

test: images ## everything that is promised, tried (GVISOR=1: contract and attacks on gVisor, too)
	@$(BIN)/python -m pytest -n 3 --dist loadfile
	@$(if $(GVISOR),USERMODE_TEST_RUNTIME=runsc $(BIN)/python -m pytest tests/contract/test_contract.py tests/security -k 'gvisor or security')

check: $(BIN)/.made ## lint, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: images ## the numbers, each beside what it is compared with
	@$(BIN)/python -m tests.bench

soak: images ## sessions killed at random until KILLS (1000) are reached: nothing lost, nothing twice, nothing left
	@mkdir -p build
	@$(BIN)/python -m tests.soak --kills $(or $(KILLS),1000) --log build/soak.jsonl --json build/soak.json

fuzz: images ## both ends of the wire against hostile bytes, a minute each
	@$(BIN)/python -m tests.fuzz

walls: images ## the attacks, tried again, and the table of docs/threat-model.md from what came of them
	@mkdir -p build
	@echo "trying all attacks on three kinds of container, which takes two minutes"
	-@$(BIN)/python -m harness attack --json --baseline docker > build/walls.jsonl
	-@$(BIN)/python -m harness attack --json --runtime runsc >> build/walls.jsonl
	@$(BIN)/python docs/walls build/walls.jsonl
	@echo "written: the table of docs/threat-model.md"

engine: ## a Docker engine that answers; installed from Debian's packages if there is none and you are root (GVISOR=1: and gVisor)
	@PYTHON=$(PYTHON) sh images/prepare engine
	@$(if $(GVISOR),PYTHON=$(PYTHON) sh images/gvisor)

images: engine $(BIN)/.made ## the images usermode/base and usermode/dev, and init
	@$(BIN)/python -m harness image build

$(BIN)/.made: pyproject.toml constraints.txt
	@PYTHON=$(PYTHON) sh images/prepare python
	@echo "making .venv, which takes a minute"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean: ## remove what the others made here; images, sessions and the engine stay
	@rm -rf --one-file-system .demo .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	@find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
