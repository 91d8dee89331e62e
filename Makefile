# Two commands matter: `make demo` and `make test`. Both set everything up first; a second run starts in seconds.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := worker,postgresql,gguf,harness,dev
# Torch comes first and alone: it is nine tenths of the download, and an index for it can be set apart,
# for instance TORCH_PIP_ARGS="--index-url ..." for the build without CUDA.
TORCH_PIP_ARGS ?=
# Test processes. Each file runs in one of them, so that files share nothing but their own fixtures.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest

.PHONY: help setup demo test coverage chaos check lint docs audit load zoo bench mutants lock digests clean

help: ## Show this list.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(STAMP) ## Create .venv and install everything into it.

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "Python is missing: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$$($(PYTHON) --version) is too old: 3.11 or newer is needed. Name one: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "Python cannot make environments here: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH_PIP_ARGS) -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(EXTRAS)]"
	@touch $(STAMP)

demo: setup ## Three methods at the same bits through the service, and a verdict; MODEL=org/name takes one from the Hub.
	$(BIN)/srr demo $(if $(MODEL),--model "$(MODEL)")

test: setup ## Run every test.
	$(PYTEST) -n $(WORKERS) --dist loadfile

coverage: setup ## Which lines the tests that are not slow run, in every process; into build/coverage.txt.
	@mkdir -p build && rm -f build/.coverage*
	COVERAGE_FILE=build/.coverage $(BIN)/python -m coverage run -m pytest -n $(WORKERS) --dist loadfile -m "not slow"
	COVERAGE_FILE=build/.coverage $(BIN)/python -m coverage combine --quiet
	COVERAGE_FILE=build/.coverage $(BIN)/python -m coverage report > build/coverage.txt; tail -1 build/coverage.txt

# A seed replays a plan: make chaos CHAOS="--seed 7". More: CHAOS="--faults 1000 --jobs 200 --minutes 120".
CHAOS ?=
chaos: setup ## Break a real installation for a quarter of an hour and look whether everything holds.
	$(BIN)/python -m tests.chaos $(CHAOS)

lint: setup ## Format, lint, types and import contracts; changes nothing.
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: setup ## Build the documentation into build/docs.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# pip-audit ends alike for a hole and for a network that is away; only its words tell them apart.
audit: setup ## Known holes of what is installed, and build/sbom.json (CycloneDX); without a network it says so.
	@mkdir -p build
	@$(BIN)/python -m pip_audit --skip-editable --format cyclonedx-json --output build/sbom.json 2> build/audit.log || { \
		grep -qE 'ConnectionError|ConnectTimeout|ReadTimeout|Max retries|No module named' build/audit.log && \
		echo "audit: no index is reachable, or pip-audit is missing; nothing was checked" || { cat build/audit.log; exit 1; }; }

check: lint docs audit ## Everything before a commit: lint, known holes, then the tests that are not slow.
	$(PYTEST) -n $(WORKERS) --dist loadfile -m "not slow"

zoo: setup ## Try every class of transformers' tables and write tests/zoo/TABLE.tsv; half an hour on one core.
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m tests.zoo.sweep

bench: setup ## Run every benchmark on a quiet machine; BENCHMARKS.md holds the numbers.
	@set -e; for script in benchmarks/[a-z]*.py; do \
		echo "== $$script"; $(BIN)/python -m "benchmarks.$$(basename $$script .py)"; \
	done

# More: LOAD="--clients 50 --seconds 60".
LOAD ?=
load: setup ## Overload a real installation and see where it bends, what it sheds, and whether it comes back.
	$(BIN)/python -m benchmarks.overload $(LOAD)

mutants: setup ## How much of the modules their tests hold; SAMPLE=N faults of each module, all of them take hours.
	$(BIN)/python -m benchmarks.mutants $(if $(SAMPLE),--sample $(SAMPLE)) $(MODULES)

# Of two pins of one package sort keeps the first, the installed one. A pin of what is not installed here (llama-cpp,
# another platform) stays; one of what is no longer used is deleted by hand.
# The images install from docker/*.lock, with hashes. An index must be reachable for them, and no links may be set: then
# torch's build without CUDA would be found. What is not installed here, like the builder's own needs, is pinned by hand.
lock: setup ## Pin what is installed now, and hash what the images install. Torch's +cpu or +cu suffix is left out.
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+c[pu0-9]*$$//' | \
		LC_ALL=C sort -fu -t= -k1,1 -o constraints.txt - constraints.txt
	$(BIN)/python docker/write_locks.py
	@touch $(STAMP)

digests: ## Pin the images that ours start from to what their tags mean today; needs docker and a network.
	$(PYTHON) docker/pin_digests.py

clean: ## Remove caches, builds and the demo's data; .venv stays.
	rm -rf build dist .demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -print | xargs rm -rf
