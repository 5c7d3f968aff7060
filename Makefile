# Two commands for a newcomer: `make demo` and `make test`. Both make their own environment in .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test bench docs clean

demo: .venv/installed
	$(BIN)/framelets demo

test: .venv/dev-installed
	scripts/check

bench: .venv/dev-installed .venv-peers/installed
	$(BIN)/python -m benchmarks --json docs/results/bench.json

docs: .venv/docs-installed
	$(BIN)/sphinx-build -W -b html docs docs/_build/html

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/pip install -q -c constraints.txt -e .
	touch $@

.venv/dev-installed: pyproject.toml constraints.txt requirements-peers.txt | .venv/bin/python
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	$(BIN)/pip install -q --no-deps -r requirements-peers.txt
	touch $@ .venv/installed

.venv/docs-installed: .venv/dev-installed
	$(BIN)/pip install -q -c constraints.txt -e '.[docs]'
	touch $@

.venv-peers/installed: requirements-bench.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install -q -r requirements-bench.txt
	touch $@

clean:
	rm -rf .venv .venv-peers build dist docs/_build
