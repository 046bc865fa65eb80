# Few commands, the same here and in CI. Python 3.11+ and make are all that is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: run test lint bench cap-trial clean

run: $(INSTALLED)
	exec $(BIN)/python -m bidder serve --seed config/demo/people.jsonl

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadgroup --cov --cov-report=term:skip-covered

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED)
	$(BIN)/python -m loadtest bench --out build/bench.json

cap-trial: $(INSTALLED)
	$(BIN)/python -m loadtest.cap_trial --out build/capping.json

clean:
	rm -rf $(VENV) build .state

$(INSTALLED): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@
