# Everything this project does, by name. `make` alone lists the targets.
#
#   make run                          train, judge and report every case
#   make run CASE=iris SIZE=full      one case, at its full size
#   make run PYTHON=python3.12        make the environment with another Python (3.11 to 3.13)

SHELL  := /bin/bash
PYTHON ?= python3
SIZE   ?= small
CASE   ?=
export SIZE CASE SEED SUMMARY NO_PROMOTE PORT
export MLFLOW_DISABLE_TELEMETRY := true

BIN := .venv/bin
# Written last, so an interrupted installation starts again. Its name holds the folder it was made in,
# because a virtual environment stops working when its folder moves.
ENV := .venv/made-here-$(shell pwd | cksum | cut -d' ' -f1)

.DEFAULT_GOAL := help
.PHONY: help env run test lab serve app export readme lock check build clean state-find state-check

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1|\2/' | column -t -s '|'

env: $(ENV)  ## make the environment in .venv (the other targets do this by themselves)

# $$NAME is the shell's variable, not make's text: what a workflow's input holds is never run as code.
run: $(ENV)  ## train, judge and report: CASE= (default: every case), SIZE=small, SEED=, SUMMARY=file.md
	@$(BIN)/rf-mlops run --size "$$SIZE" $${SEED:+--seed "$$SEED"} $${SUMMARY:+--summary "$$SUMMARY"} \
		$${NO_PROMOTE:+--no-promote} -- $$CASE

test: $(ENV)  ## run the tests: SLOW=1 adds the slow ones, COVERAGE=1 measures
	@echo "Looking for a browser to test the pages with:"
	@CHROMIUM="$$($(BIN)/python tools/browser.py)"; export CHROMIUM; set -x; \
	$(BIN)/python -m pytest -n 2 --dist loadfile $(if $(SLOW),,-m "not slow") $(if $(COVERAGE),--cov --cov-report=term --cov-report=xml)

lab: $(ENV)  ## open JupyterLab in the notebooks
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/nbs/index.ipynb

serve: $(ENV)  ## answer over HTTP: CASE= at the root, PORT= (default: settings.ini)
	@$(BIN)/rf-mlops serve $${CASE:+--case "$$CASE"} $${PORT:+--port "$$PORT"}

app: $(ENV)  ## show the prediction page, and start the API if none answers: CASE=, PORT=
	@$(BIN)/rf-mlops app $${CASE:+--case "$$CASE"} $${PORT:+--port "$$PORT"}

export: $(ENV)  ## after editing nbs/: format the notebooks, write rf_mlops/, clean the notebooks
	$(BIN)/ruff format nbs
	$(BIN)/nbdev-export
	$(BIN)/nbdev-clean

readme: $(ENV)  ## make README.md from nbs/index.ipynb
	$(BIN)/python tools/readme.py

lock: $(ENV)  ## write requirements.lock: keeps today's versions where it can; UPGRADE=1 takes the newest
	$(BIN)/python tools/lock.py $(if $(UPGRADE),--upgrade)

check: $(ENV)  ## what CI checks without running anything: lock, notebooks, export, README, style, types
	$(BIN)/python tools/lock.py --check
	$(BIN)/python tools/notebooks.py
	$(BIN)/python tools/readme.py --check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

build: $(ENV)  ## build the wheel in dist/
	$(BIN)/python -m build --wheel --no-isolation

clean:  ## remove the environment and everything that is made, except reports/ and mlruns/
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage* coverage.xml _proc _docs

state-find: $(ENV)  ## (CI) find the newest mlruns/ that an earlier retraining kept
	@$(BIN)/python tools/state.py find

state-check: $(ENV)  ## (CI) refuse an mlruns/ that has become too large to keep
	@$(BIN)/python tools/state.py check

# uv comes first, in the version and with the hashes of the lock, and then installs everything else.
$(ENV): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || { \
		echo "rf_mlops needs Python 3.11, 3.12 or 3.13; '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo missing)."; \
		echo "Name another one, for example: make $(or $(MAKECMDGOALS),env) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv --clear .venv
	@sed -n '/^uv==/,/# via/p' requirements.lock > .venv/uv.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.txt
	$(BIN)/uv pip install --quiet --python .venv --compile-bytecode --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python .venv --no-deps --no-build-isolation -e .
	@touch $@
