# make demo    environment, install, a real fine-tuning on real photographs, report
# make test    the tests, in minutes
# make proof   those that take longer: kills of fresh processes, the whole option matrix
# make campaign  every fault of tests/faults, and its figures for docs/reliability.md
# make nightly MINUTES=30   a soak and a fuzz, of so many minutes each
# make browser the pages of `imgkit report`, `label` and `serve` in a real browser, where there is a chromium
# make lint    style and types
# make docs    the site, in site/, and man pages, in build/man/; a link that leads nowhere stops it
# make lock    requirements.lock anew: the newest versions that fit together, and the hash of each of their files
# make audit   whether a known weakness lies in one of them (asks a service on the network)
PYTHON ?= python3
VENV ?= .venv
MINUTES ?= 30
BIN = $(VENV)/bin

.PHONY: demo test proof browser campaign nightly lint docs lock audit clean

demo: $(VENV)/ready
	$(BIN)/imgkit demo

test: $(VENV)/ready
	$(BIN)/pytest -n 2

proof: $(VENV)/ready
	$(BIN)/pytest -n 2 -m slow

campaign: $(VENV)/ready
	$(BIN)/pytest -n 2 -m '' tests/faults --campaign-json benchmarks/reliability.json
	$(BIN)/python benchmarks/reliability.py

nightly: $(VENV)/ready
	$(BIN)/pytest -n 2 -rP -m nightly tests/nightly --nightly-minutes $(MINUTES)

browser: $(VENV)/ready
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[browser]'
	$(BIN)/pytest -m slow tests/report/test_browser.py tests/report/test_accessible.py tests/labelling/test_browser.py \
		tests/serving/test_serving_browser.py

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/ready
	$(BIN)/python -m imgkit.cli.reference docs/cli.md build/man
	$(BIN)/zensical build --clean --strict

$(VENV)/ready: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "imgkit needs Python 3.11 or newer; $(PYTHON) is: $$($(PYTHON) --version 2>&1)" >&2; \
		echo "Name another one, such as:  make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

lock:
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install --quiet uv
	$(VENV)-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
		--custom-compile-command 'make lock' --upgrade --constraint constraints.txt --extra demo --extra dev \
		--output-file requirements.lock pyproject.toml
	rm -r $(VENV)-lock

audit:
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/pip install --quiet pip-audit
	$(VENV)-audit/bin/pip-audit --strict --require-hashes --disable-pip --requirement requirements.lock
	rm -r $(VENV)-audit

clean:
	rm -rf $(VENV) $(VENV)-lock $(VENV)-audit site build/man
