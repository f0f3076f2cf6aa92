# Two commands: `make chat` and `make test`. Each sets up what it needs (recipes/setup.py), once.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: chat test test-slow check bench setup clean

# a fixed length: by itself the policy would park, since so small a target decodes faster without drafts
chat: setup
	@$(BIN)/dspark-local chat demo --policy fixed:3

test: setup check
	$(BIN)/pytest --numprocesses auto --dist worksteal

test-slow: setup
	$(BIN)/pytest -m slow

# mypy and import-linter run beside the sources, so that they see the package as it is installed
check: setup
	$(BIN)/ruff check
	cd .venv && bin/mypy --config-file ../pyproject.toml
	cd .venv && bin/lint-imports --config ../pyproject.toml

bench: setup
	$(BIN)/python benchmarks/scaled.py

setup:
	@$(PYTHON) recipes/setup.py

clean:
	rm -rf .venv build *.egg-info
