# `make demo` and `make test` do all the set-up on a fresh machine; the second installs nothing again.
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2
# Several processes of one thread each: the suite is many small works, which several threads do not speed up.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: help demo test test-slow test-lowest check format bench records campaigns docs site dist-check clean
help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

# On x86-64 PyPI's torch and torchvision must come as a pair; the newest pair is asked for in one call.
.venv/installed: setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "torch>=2.9" "torchvision>=0.24"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch .venv/installed

demo: .venv/installed  ## buffer, distil and evaluate on embedded real digits; writes runs/demo/
	$(BIN)/python scripts/demo.py

test: .venv/installed  ## the test suite (minutes); WORKERS=8 where there are more cores
	$(PYTEST)

test-slow: .venv/installed  ## with the slow tests
	$(PYTEST) --run-slow

# Old packages beside a new Python and new packages of their own warn of what they will stop to do.
test-lowest: .venv/installed  ## the test suite with the lowest versions that setup.py allows, in its own environment
	$(BIN)/python scripts/lowest.py .venv-lowest
	$(PYTEST:$(BIN)%=.venv-lowest/bin%) -W ignore::DeprecationWarning

check: .venv/installed  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/installed  ## rewrite files in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/installed  ## side-by-side timings, ten minutes on two quiet cores; writes docs/performance.md
	$(BIN)/python -m scripts.bench.all

records: .venv/installed  ## the measured tables; resumes where it stopped (hours)
	$(BIN)/python -m scripts.records.make.run --root $(or $(ROOT),data)
	$(BIN)/python -m scripts.records.make.settings --root $(or $(ROOT),data)
	$(BIN)/python -m scripts.records.make.graphs --root $(or $(ROOT),data)
	$(BIN)/python -m scripts.records.make.readings --root $(or $(ROOT),data)
	$(BIN)/python -m scripts.records.make.nodes --root $(or $(ROOT),data)
	$(BIN)/python -m scripts.records.make.leaderboards --root $(or $(ROOT),data)
	$(BIN)/python -m scripts.records.make.federated

campaigns: .venv/installed  ## what can go wrong, tried many times; writes scripts/records/campaigns/
	$(BIN)/python -W ignore -m scripts.campaigns

docs: .venv/installed  ## rewrite the pages made from docstrings, presets and records: methods, results, reliability
	$(BIN)/python -m scripts.records.tables
	$(BIN)/python scripts/docs/methods.py
	$(BIN)/python scripts/docs/frontier.py
	$(BIN)/python scripts/docs/reliability.py

# The builder reads sources and needs none of the packages of the library. `--quiet` would keep `--strict` from counting.
.venv-docs/installed: scripts/docs/requirements.txt
	test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --requirement scripts/docs/requirements.txt
	touch .venv-docs/installed

site: .venv-docs/installed  ## the manual as pages for a browser: site/index.html; a broken link fails
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict

dist-check: .venv/installed  ## before a release: sdist and wheel, each installed outside the checkout and used (a minute)
	$(BIN)/python scripts/dist_check.py

clean:  ## remove the environments, the runs and the site
	rm -rf .venv .venv-lowest .venv-docs runs build site *.egg-info
