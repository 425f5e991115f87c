# The everyday commands, in an activated environment. `make` lists them.
.DEFAULT_GOAL := help
.PHONY: help install quick test fuzz mutation audit examples lint format docs versions all
WORKERS ?= 2
PYTEST = OMP_NUM_THREADS=1 pytest --numprocesses=$(WORKERS) --dist=loadfile

help: ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: ## the package, editable, with all that tests need
	pip install -e ".[test]"

quick: ## the everyday loop: all tests but the slow ones
	$(PYTEST) -m "not slow"

test: ## all tests
	$(PYTEST)

fuzz: ## every parser by thousands of made and damaged files, for some minutes
	VREID_FUZZ=2000 pytest tests/unit/test_fuzz.py --timeout=3600

mutation: ## whether the tests notice changes of the maths, a sample of them
	python tests/benchmarks/mutation.py ranking evaluation association --own --sample 60

audit: ## whether a dependency has a known weakness (asks pypi.org)
	pip-audit --skip-editable

examples: ## the examples in docstrings alone
	pytest vreid_cli

lint: ## style, types and layers, as .ci/run checks them
	ruff check .
	ruff format --check .
	mypy
	lint-imports --no-cache

format: ## let ruff fix and format what it can
	ruff check --fix .
	ruff format .

docs: ## all pages as a site in build/site; warnings are errors
	NO_MKDOCS_2_WARNING=1 mkdocs build --quiet

versions: ## the oldest and newest releases of all dependencies, with each Python (takes hours, needs uv)
	.ci/versions

all: ## everything that must hold, from fresh environments (takes minutes and gigabytes)
	.ci/run
