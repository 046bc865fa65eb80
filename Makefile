# Few commands, the same here and in CI. Python 3.11+ and make are all that is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

DEMO := build/demo-crm

.PHONY: demo-crm run test lint bench bench-compiled retrain cap-trial money-trial replay ipinyou clean

run: $(INSTALLED)
	exec $(BIN)/python -m bidder serve --seed config/demo/people.jsonl

# An invented French shop for lamps: its files, imported and sorted into segments. Then `make run`
# bids on its customers: curl -d @config/crm/request.json http://127.0.0.1:8080/openrtb2/demo
demo-crm: $(INSTALLED)
	$(BIN)/python -m bidder crm demo $(DEMO)
	$(BIN)/python -m bidder crm import config/crm/maison-lumen.yaml $(DEMO)/*.csv $(DEMO)/*.parquet $(DEMO)/*.jsonl
	$(BIN)/python -m bidder segments build
	$(BIN)/python -m bidder segments preview

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=term:skip-covered

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED)
	$(BIN)/python -m loadtest bench --out build/bench.json

# The same with the trees as machine code.
bench-compiled: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --editable '.[compiled]'
	$(BIN)/python -m loadtest bench --compiled --out build/bench-compiled.json

cap-trial: $(INSTALLED)
	$(BIN)/python -m loadtest.cap_trial --out build/capping.json

# Eight workers, a lossy exchange, four hours on a clock of its own: is the budget kept, and spread?
# Evenly; then ahead, with a worker killed half-way. About a quarter of an hour each.
money-trial: $(INSTALLED)
	$(BIN)/python -m loadtest.money_trial --plot build/money/even-4h.png --json build/money/even-4h.json
	$(BIN)/python -m loadtest.money_trial --kill --seed 2 --pacing ahead --plot build/money/ahead-killed-4h.png --json build/money/ahead-killed-4h.json

retrain: $(INSTALLED)
	$(BIN)/python -m models.retrain --out build/retrain

# Real auctions and impressions, for research only: they stay where they are.
IPINYOU := ../shared/data/ipinyou

replay: $(INSTALLED)
	$(BIN)/python -m models.replay --all $(IPINYOU) --json build/replay.json
	$(BIN)/python -m models.replay --all $(IPINYOU) --mode first --json build/replay-first.json

ipinyou: $(INSTALLED)
	$(BIN)/python -m models.ipinyou --data $(IPINYOU) --json build/ipinyou.json

clean:
	rm -rf $(VENV) build .state

$(INSTALLED): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@
