# `make demo` runs the main job on what ships, `make test` the tests. `make peers` loads exports in
# the libraries that they are for, `make test-minimum` runs tests with the oldest versions allowed.
# `make lock` writes the lock files again, after a change of constraints.txt or pyproject.toml.
# `make licences` and `make audit` check what is locked.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
MINIMUM := .venv-minimum
# Wheels of torch without a GPU: in a folder of yours, else from where uv knows them.
WHEELS := $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS),--torch-backend cpu)
COMPILE := uv pip compile --quiet --no-annotate --python-version 3.11 $(WHEELS) pyproject.toml \
	--custom-compile-command "make lock"

.PHONY: demo test lint peers lock licences audit test-minimum clean

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

# With hashes: a file that is not the one that was locked is refused. torch is not in the lock: a
# wheel for the CPU has a hash for each place that it comes from.
$(VENV)/.installed-dev: $(VENV)/.torch pyproject.toml requirements.lock
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $(VENV)/.installed $@

# Of what is installed, against the list in pyproject.toml.
licences: $(VENV)/.installed-dev
	mkdir -p build
	$(BIN)/pip-licenses --format csv --output-file build/licences.csv

audit: $(VENV)/.installed-dev
	$(BIN)/python .ci/audit.py

lock: $(VENV)/.installed-dev
	$(BIN)/$(COMPILE) --all-extras -c constraints.txt --generate-hashes --no-emit-package torch \
		--output-file requirements.lock
	grep '^torch==' constraints.txt | $(BIN)/$(COMPILE) --all-extras -c - \
		--resolution lowest-direct --output-file constraints-minimum.txt

# The core, with the lowest versions that pyproject.toml allows; but with the torch of the tests,
# since an older one would fetch gigabytes of GPU libraries. Ten minutes.
test-minimum: $(MINIMUM)/.installed
	OMP_NUM_THREADS=1 $(MINIMUM)/bin/python -m pytest -n logical --dist worksteal -m "not slow" \
		tests/data tests/hypernet tests/model tests/heads tests/backbone tests/recipe \
		tests/training tests/evaluation tests/transfer tests/cli tests/export tests/serving

$(MINIMUM)/.installed: constraints-minimum.txt pyproject.toml
	$(PYTHON) -m venv $(MINIMUM)
	$(MINIMUM)/bin/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	grep -v '^torch==' $< | $(MINIMUM)/bin/python -m pip install --quiet --no-deps -r /dev/stdin
	$(MINIMUM)/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf $(VENV) $(PEERS) $(MINIMUM) build dist
