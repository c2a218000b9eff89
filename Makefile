# make run: install and run the main job. make test: install, lint, types, every test.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# Processes that the tests are shared out over; each takes up to 4 GB.
WORKERS ?= 2

.PHONY: run test lint clean

run: $(VENV)/installed
	$(BIN)/python -m jaxmatte.main --config configs/gcam_spkd.py

test: lint
	$(BIN)/python -m pytest -q --durations=10 -n $(WORKERS) --dist loadfile

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) runs
