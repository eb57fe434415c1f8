# `make demo` runs the main job on what ships, `make test` the tests. `make peers` loads exports in
# the libraries that they are for.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers

.PHONY: demo test lint peers clean

demo: $(VENV)/.installed
	$(BIN)/hyperlect quickstart

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --dist worksteal

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Exports of tiny models, loaded by the unmodified library in an environment of its own.
peers: $(VENV)/.installed-dev $(PEERS)/.installed
	rm -rf build/peers
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.peers.exports build/peers
	OMP_NUM_THREADS=1 $(PEERS)/bin/python -m pytest tests/peers

$(PEERS)/.installed: constraints-peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet "$$(grep '^torch==' $<)" -c $<
	$(PEERS)/bin/python -m pip install --quiet adapters pytest -c $<
	touch $@

# torch first and alone: a range would fetch gigabytes of GPU libraries.
$(VENV)/.torch: constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip -c constraints.txt
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)" -c constraints.txt
	touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml
	$(BIN)/python -m pip install --quiet -e ".[builtin]" -c constraints.txt
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -e ".[builtin,onnx,serve,spacy,cluster,dev]" -c constraints.txt
	touch $@

clean:
	rm -rf $(VENV) $(PEERS) build dist
