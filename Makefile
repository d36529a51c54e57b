# Everything happens in .venv, which the first command that needs it creates.
# Python 3.10 or newer; another one than the first found: make dev PYTHON=/path/to/python

LIBRARIES := icube_common motiondiff actprompt debian_mri
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MANIFESTS := $(wildcard libs/*/pyproject.toml libs/*/hatch_build.py)

# one thread in each of pytest's processes: more of them than cores only wait for each other
PYTEST_ARGS ?= -n logical --maxprocesses 4 --dist loadfile
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

.DEFAULT_GOAL := help
.PHONY: help dev demo docs test lint format type clean $(LIBRARIES:%=test-%)

help:  ## this list
	@sed -n 's/^\([a-z<>_-]*\):.*##  *\(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
		while IFS='|' read -r target words; do printf '%-26s %s\n' "$$target" "$$words"; done
	@for library in $(LIBRARIES); do printf '%-26s %s\n' "  make test-$$library" "the tests of $$library"; done

dev: $(STAMP)  ## install the four libraries, editable, with the tools for tests, lint and types

demo: $(STAMP)  ## run the main job of every library on simulated data, into demo/, and make a page of it
	@echo 'Three demos on simulated data, no network and no GPU: motion (about 2 minutes on two idle CPU cores),'
	@echo 'video (1 to 2 minutes), brain MRI (under 3 minutes). They end with demo/index.html, a page of all results.'
	$(BIN)/motiondiff demo --out demo/motiondiff --overwrite
	$(BIN)/actprompt demo --out demo/actprompt --overwrite
	$(BIN)/debian-mri demo --out demo/debian_mri --overwrite
	@$(BIN)/python examples/demo_page.py demo

docs: $(STAMP)  ## build the documentation with executed tutorials into site/ (some minutes)
	$(BIN)/python -m pip install --disable-pip-version-check -e 'libs/icube_common[docs]'
	$(BIN)/mkdocs build --strict

test: $(STAMP)  ## run every test
	$(PYTEST)

$(LIBRARIES:%=test-%): test-%: $(STAMP)
	$(PYTEST) libs/$*/tests

lint: $(STAMP)  ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP)  ## ruff: mend what can be mended and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: $(STAMP)  ## mypy
	$(BIN)/mypy

clean:  ## remove .venv, caches, the demo and the site
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis demo site
	find libs tests -name __pycache__ -type d -prune -exec rm -rf {} +

# the first interpreter that is new enough and can make an environment
$(BIN)/python:
	@for python in $(PYTHON) python3.11 python3.12 python3.13 python3.10 python3; do \
		if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then \
			echo "creating $(VENV) with $$python"; exec $$python -m venv $(VENV); \
		fi; \
	done; \
	echo "no Python >= 3.10 with the venv module found: make dev PYTHON=/path/to/python" >&2; exit 1

# one call, so that pip registers all four and resolves them together
$(STAMP): $(MANIFESTS) | $(BIN)/python
	@echo 'installing the four libraries and their dependencies: some minutes, mostly downloads of 2 to 3 GB'
	$(BIN)/python -m pip install --disable-pip-version-check \
		-e 'libs/icube_common[dev]' -e 'libs/motiondiff[test]' -e 'libs/actprompt[test]' -e 'libs/debian_mri[test]'
	touch $@
