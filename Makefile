# make demo    environment, install, a real fine-tuning on real photographs, report
# make test    the tests, in minutes
# make proof   those that take longer: kills of fresh processes, the whole option matrix
# make campaign  every fault of tests/faults, and its figures for docs/reliability.md
# make browser the pages of `imgkit report` in a real browser, where there is a chromium
# make lint    style and types
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test proof browser campaign lint clean

demo: $(VENV)/ready
	$(BIN)/imgkit demo

test: $(VENV)/ready
	$(BIN)/pytest -n 2

proof: $(VENV)/ready
	$(BIN)/pytest -n 2 -m slow

campaign: $(VENV)/ready
	$(BIN)/pytest -n 2 -m '' tests/faults --campaign-json benchmarks/reliability.json
	$(BIN)/python benchmarks/reliability.py

browser: $(VENV)/ready
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[browser]'
	$(BIN)/pytest -m slow tests/report/test_browser.py tests/report/test_accessible.py

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[demo,dev]'
	touch $@

clean:
	rm -rf $(VENV)
