# `make demo` and `make test` need only make and Python 3.12 or newer: they create the environment in .venv from the locked
# requirements, once. `make` without a target lists all targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

# Compiled bytecode shortens the start (importing numba takes 0.15 s instead of 0.5 s), so ignore a shell that disables it.
unexport PYTHONDONTWRITEBYTECODE
# Folder of the reference figures, passed on if set (default: ../shared/reference).
export MLHO_REFERENCE

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGES := mlho scheduler worker
CHECKED := $(PACKAGES) tests benchmarks docs k8s

# Tried in this order. A command that exists may be too old, or a shim for a version that is not installed.
PYTHONS := $(PYTHON) python3.13 python3.12 python3.14 python3 /usr/bin/python3.13 /usr/bin/python3.12 /usr/bin/python3 python
# Number of parallel test processes, and additional arguments for pytest: make test PYTEST_ARGS='-k ledger'.
TEST_PROCESSES ?= 2
# The same for the tests with servers, which spend most of their time waiting.
SERVICE_PROCESSES ?= 4
PYTEST_ARGS ?=
# Each process takes neighbouring tests, so that it creates shared fixtures once, and takes tests from other processes when it has
# none left. The files of a passed test are deleted at its end, because they may be in memory.
PYTEST_OPTIONS := --dist worksteal -o tmp_path_retention_policy=failed
PYTEST := $(BIN)/python -m pytest $(PYTEST_OPTIONS)

## Use
.PHONY: demo env help
demo: $(STAMP)  ## train on a synthetic cohort and check that the planted features are found (about two minutes)
	$(BIN)/mlho demo

env: $(STAMP)  ## create the environment in .venv from the locked requirements

help:  ## list the targets
	@awk 'BEGIN {FS = ":.*  ## "} /^## / {print "\n" substr($$0, 4)} /^[a-z-]+:.*  ## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## Check
.PHONY: check code-tests coverage doctest lint service-tests test test-newest tests types
test: $(STAMP)  ## run everything that must pass: check, doctests, all tests
	@$(MAKE) --no-print-directory --jobs 2 --output-sync check $(COMPILED) $(COLLECTED)
	@$(MAKE) --no-print-directory tests

check: lint types  ## run ruff, the formatting check, hadolint and mypy

lint: $(STAMP)  ## run ruff and the formatting check, and hadolint where it is installed
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	if [ -x $(BIN)/hadolint ]; then $(BIN)/hadolint Dockerfile tests/cluster/images/services/Dockerfile; fi

types: $(STAMP)  ## run mypy in strict mode
	$(BIN)/mypy

# While the checks run, one process compiles the numba functions, which each test process would otherwise compile itself. The cache is next to the modules.
COMPILED := $(VENV)/.compiled
$(COMPILED): $(STAMP) $(shell grep -rl --include='*.py' '^@njit' mlho)
	$(BIN)/python -m tests.compile
	@touch $@

# Likewise, one process writes the bytecode of the test modules: in a new clone, this halves the time that each test process needs to collect its tests.
COLLECTED := $(VENV)/.collected
$(COLLECTED): $(STAMP)
	found=$$($(BIN)/python -m pytest -q --collect-only --ignore tests/cluster tests) || { echo "$$found"; exit 1; }
	@touch $@

# The tests with servers have time limits and mostly wait, so the others run in parallel with them at a lower priority.
# pytest exits with 5 if PYTEST_ARGS selects no test. The cluster tests need a Kubernetes cluster; see tests/README.md.
BESIDE ?= doctest code-tests
tests: $(STAMP)  ## run the tests: those with servers, and in parallel the others, whose output follows
	TMPDIR=$$($(BIN)/python -m tests.scratch_folder); export TMPDIR; log=$$TMPDIR/log; kept=; \
	trap 'kill $$beside 2>/dev/null || true; [ -n "$$kept" ] || rm -rf "$$TMPDIR"' EXIT; \
	nice -n 5 $(MAKE) --no-print-directory --keep-going $(BESIDE) > "$$log" 2>&1 & beside=$$!; \
	code=0; $(MAKE) --no-print-directory service-tests || code=$$?; \
	wait $$beside || code=$$?; cat "$$log"; \
	[ $$code = 0 ] || { kept=yes; echo "The files of failed tests are in $$TMPDIR; delete them, because they may use memory." >&2; }; \
	exit $$code

code-tests: $(STAMP)
	$(PYTEST) -n $(TEST_PROCESSES) --ignore tests/cluster --ignore tests/services $(PYTEST_ARGS) tests || [ $$? = 5 ]

# With REPEAT_FAILED=1, which CI sets, up to three failed tests are run once more, here and on a cluster.
service-tests: $(STAMP)
	$(BIN)/python -m tests.repeat_failed $(VENV)/.failed-services $(PYTEST_OPTIONS) -n $(SERVICE_PROCESSES) $(PYTEST_ARGS) tests/services || [ $$? = 5 ]

# There is no threshold. Processes that are killed leave no data, and compiled code is not counted.
COVERAGE_TESTS ?= tests/unit tests/contract tests/laws tests/failures
coverage: $(STAMP)  ## measure the coverage of the tests without services: in the terminal and in dist/coverage
	$(PYTEST) -n $(TEST_PROCESSES) --cov --cov-report=term-missing:skip-covered \
	  --cov-report=html:dist/coverage $(PYTEST_ARGS) $(COVERAGE_TESTS)

# Shows what would break if the bounds in pyproject.toml were raised. The packages are installed over those of the environment, for these tests only.
NEWEST ?= celery kombu redis
NEWEST_TESTS ?= $(addprefix tests/services/test_,faults_queue.py faults_workers.py queue_keys.py queue_messages.py redis_refusals.py)
test-newest: $(STAMP)  ## run the queue's tests with the newest celery, kombu and redis, in a temporary environment
	folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$(BIN)/python -m venv --without-pip "$$folder"; \
	site() { "$$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }; \
	echo "import site; site.addsitedir('$$(site "$(CURDIR)/$(VENV)")')" > "$$(site "$$folder")/locked.pth"; \
	$(BIN)/uv pip install --python "$$folder/bin/python" --upgrade $(NEWEST); \
	"$$folder/bin/python" -m pytest -p no:xdist -p no:cacheprovider -W default $(PYTEST_ARGS) $(NEWEST_TESTS)

doctest: $(STAMP)  ## run the examples in docstrings
	$(BIN)/python -m pytest -q --doctest-modules mlho/method

## Measure

.PHONY: attribution bench bench-bias bench-encoding bench-levels bench-meds-tab bench-queue bench-scale chaos data-defects false-features mutations planted-truth proofs real-data report-pictures simulated-year
ATTRIBUTION_ARGS ?=
attribution: $(STAMP)  ## compare the reported AUROC with that of 20,000 new patients, in ten cohorts (half an hour)
	$(BIN)/python benchmarks/attribution.py $(ATTRIBUTION_ARGS)

BENCH ?= jmi_presence jmi_counts tree_matrix mlho_it learning
bench: $(STAMP)  ## measure the speed: our figure, the reference or limit, and the ratio; benchmarks without their data are skipped
	missed=""; \
	for benchmark in $(BENCH); do $(BIN)/python benchmarks/$$benchmark.py || missed="$$missed $$benchmark"; done; \
	[ -z "$$missed" ] || { echo "missed:$$missed" >&2; exit 1; }

bench-bias: $(STAMP)  ## measure the audit of groups and months: duration, and coverage of the intervals (five minutes)
	$(BIN)/python benchmarks/bias.py

bench-encoding: $(STAMP)  ## measure rows per second and memory on generated cohorts of about 5 and 50 million rows
	$(BIN)/python benchmarks/encoding.py

MEDS_TAB_ARGS ?=
bench-meds-tab: $(STAMP)  ## compare with MEDS-Tab on the same features, as whole commands; MEDS_TAB_PYTHON names an environment with MEDS-Tab
	$(BIN)/python benchmarks/meds_tab.py $(MEDS_TAB_ARGS)

SCORING_ARGS ?=
bench-scoring: $(STAMP)  ## score 1,000,000 patients with and without reasons, and measure the lower limit (ten minutes, 3 GB)
	cd benchmarks && ../$(BIN)/python scoring.py $(SCORING_ARGS)

bench-levels: $(STAMP)  ## compare the ranking of counts and values with R's levels, on noise of many levels and on real data
	$(BIN)/python benchmarks/jmi_levels.py

# Run each one separately on an idle machine: make bench-queue BENCH_QUEUE=queue_fits. For a quick functional check: BENCH_QUEUE_ARGS=--short.
BENCH_QUEUE ?= queue_speed queue_stages queue_recovery queue_fits queue_memory
BENCH_QUEUE_ARGS ?=
SCALE_ARGS ?=
bench-queue: $(STAMP)  ## measure the guaranteed figures of the queue: speed, fits against joblib, memory of the scheduler (half an hour)
	missed=""; \
	for benchmark in $(BENCH_QUEUE); do $(BIN)/python benchmarks/$$benchmark.py $(BENCH_QUEUE_ARGS) || missed="$$missed $$benchmark"; done; \
	[ -z "$$missed" ] || { echo "missed:$$missed" >&2; exit 1; }

bench-scale: $(STAMP)  ## measure the share of 1 to 1,024 slots that the queue keeps busy, on an idle machine (three minutes)
	$(BIN)/python benchmarks/scale.py $(SCALE_ARGS)

REPORT_PICTURES_ARGS ?=
report-pictures: $(STAMP)  ## draw the pictures in docs/ of three reports on public data (ten minutes); --store FOLDER keeps the runs
	$(BIN)/python benchmarks/report_pictures.py $(REPORT_PICTURES_ARGS)

DATA_DEFECTS_ARGS ?=
data-defects: $(STAMP)  ## plant defects in clean tables: is each found by the right check, and is nothing found in clean tables?
	PYTHONPATH=. $(BIN)/python tests/failures/data_defects.py $(DATA_DEFECTS_ARGS)

planted-truth: $(STAMP)  ## check in ten cohorts that the planted codes are found, and no noise
	$(BIN)/python benchmarks/planted_truth.py --seeds 10

false-features: $(STAMP)  ## check in twenty cohorts that shadow features estimate the noise in the consensus
	$(BIN)/python benchmarks/false_features.py

SIMULATED_YEAR_ARGS ?=
simulated-year: $(STAMP)  ## simulate a year of nights: how soon is a loss of AUROC detected, with and without labels? (five minutes)
	PYTHONPATH=. $(BIN)/python benchmarks/simulated_year.py $(SIMULATED_YEAR_ARGS)

# A shorter run: make time-effects TIME_EFFECTS_ARGS=--short.
.PHONY: time-effects
TIME_EFFECTS_ARGS ?=
time-effects: $(STAMP)  ## train on 250,000 patients with effects of order, calendar and interactions, and compare with the true risks (ten minutes)
	$(BIN)/python benchmarks/time_effects.py $(TIME_EFFECTS_ARGS)

REAL_DATA_ARGS ?=
real-data: $(STAMP)  ## predict readmission within 30 days of 101,766 real hospital stays: AUROC, duration, memory
	$(BIN)/python benchmarks/real_data.py $(REAL_DATA_ARGS)

CHAOS_SEEDS ?= 1 2 3
CHAOS_TASKS ?= 2000
# s3: SeaweedFS behind a proxy that fails; local: a folder.
CHAOS_STORE ?= s3
chaos: $(STAMP)  ## combine all faults and compare every byte of the result; then run the same-bytes tests of the queue in full
	PYTHONPATH=. $(BIN)/python tests/services/proofs.py chaos --seed $(CHAOS_SEEDS) --tasks $(CHAOS_TASKS) --store $(CHAOS_STORE)
	LONG_TESTS=1 $(BIN)/python -m pytest -p no:xdist $(PYTEST_ARGS) tests/services/test_same_bytes_queue.py

# To run only some: make proofs PROOFS='workers redis'. To run a tenth of the trials: PROOF_SHARE=0.1.
PROOFS ?= workers redis schedulers poison drain lock
PROOF_SHARE ?= 1
proofs: $(STAMP)  ## kill workers, Redis and schedulers many times: recovery times, and tasks that run twice (an hour)
	PYTHONPATH=. $(BIN)/python tests/services/proofs.py $(PROOFS) --share $(PROOF_SHARE)

MUTATIONS_ARGS ?=
mutations: $(STAMP)  ## run 5,000 specifications and 1,000 tables with faults: each gives a clear error or a complete account of its rows (half an hour)
	PYTHONPATH=. $(BIN)/python tests/failures/mutations.py $(MUTATIONS_ARGS)

# To change the number of sound models: make model-zoo MODEL_ZOO_ARGS='--sound 50'.
.PHONY: model-zoo
MODEL_ZOO_ARGS ?=
model-zoo: $(STAMP)  ## train 44 broken models of 32 kinds and 210 sound ones: which are rejected by the tests of their bundles? (ten minutes)
	PYTHONPATH=. $(BIN)/python benchmarks/model_zoo.py $(MODEL_ZOO_ARGS)

.PHONY: hostile
HOSTILE_SHARE ?= 1
hostile: $(STAMP)  ## send 2,000 hostile items to a run's Redis: none may execute, delete, quarantine or end anything (ten minutes)
	PYTHONPATH=. $(BIN)/python tests/services/proofs.py hostile --share $(HOSTILE_SHARE)

## Maintain

.PHONY: clean docs lock release-archive
release-archive: $(STAMP)  ## archive a store of this release, which the tests of later releases read
	$(BIN)/python -m tests.upgrade.release

docs: $(STAMP)  ## generate docs/specification.md and the JSON Schemas in docs/
	$(BIN)/python docs/generate.py

LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.12 \
  --no-emit-index-url --no-emit-find-links --no-annotate --no-header pyproject.toml
# Locked versions are kept if they still satisfy pyproject.toml; `make lock LOCK_ARGS=--upgrade` takes newer ones.
LOCK_ARGS ?=
lock: $(STAMP)  ## update the locked requirements after a change of pyproject.toml
	$(LOCK) $(LOCK_ARGS) --extra scheduler -o requirements/scheduler.txt
	$(LOCK) $(LOCK_ARGS) --extra worker -o requirements/worker.txt
	$(LOCK) $(LOCK_ARGS) --extra scheduler --extra worker --extra embedded --extra tracing --extra signing --extra dev -o requirements/dev.txt

clean:  ## remove the environment and the files of tools; stores and demos are kept
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
	find $(PACKAGES) tests benchmarks docs -name __pycache__ -prune -exec rm -rf {} +

# The environment. A changed lock is installed into the existing environment; `make clean` removes it.
$(STAMP): requirements/dev.txt pyproject.toml
	@python=""; \
	for candidate in $(PYTHONS); do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then python="$$candidate"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "make: found no Python 3.12 or newer among: $(PYTHONS). Install one, or name it: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; \
	  exit 1; \
	fi; \
	if [ ! -x $(BIN)/python ]; then \
	  if ! "$$python" -c 'import ensurepip' 2>/dev/null; then \
	    echo "make: $$python has no ensurepip, so it cannot create an environment. On Debian or Ubuntu: apt-get install python3-venv" >&2; \
	    exit 1; \
	  fi; \
	  echo "Creating $(VENV) with $$("$$python" --version)"; \
	  "$$python" -m venv $(VENV); \
	fi; \
	if command -v uv >/dev/null; then \
	  install=(uv pip install --quiet --python $(BIN)/python); \
	else \
	  install=($(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile); \
	fi; \
	echo "Installing the locked requirements (about 1.5 GB; the first time takes some minutes)"; \
	"$${install[@]}" --require-hashes -r requirements/dev.txt; \
	"$${install[@]}" --no-deps --no-build-isolation -e .; \
	echo "Compiling bytecode"; \
	$(BIN)/python -m compileall -q -j 0 -x '/(tests|sympy|kubernetes/aio)/' $(VENV)/lib $(PACKAGES) || true
	@touch $@

## Kubernetes
.PHONY: chart-docs crd image push sbom test-cluster test-cluster-long
crd: $(STAMP)  ## generate the CRDs from the models: k8s/crd.yaml and the chart's copy
	$(BIN)/python k8s/generate.py crd

chart-docs: $(STAMP)  ## generate the chart's schema and README, and k8s/base (requires helm)
	$(BIN)/python k8s/generate.py chart-docs

# docker or podman. For another base image: make image IMAGE_ARGS='--build-arg BASE=registry.example/python:3.13-slim'.
export BUILDER ?= $(shell command -v docker || command -v podman || echo docker)
# The chart uses this tag and these names by default.
IMAGE_TAG ?= $(shell sed -n 's/^appVersion: //p' helm/mlho/Chart.yaml)
IMAGE_ARGS ?=
image:  ## build both images: localhost/mlho-scheduler and localhost/mlho-worker
	for target in scheduler worker; do \
	  $(BUILDER) build $(IMAGE_ARGS) --target $$target --tag localhost/mlho-$$target:$(IMAGE_TAG) \
	    --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) \
	    --build-arg CREATED=$$(git log -1 --format=%cI 2>/dev/null || echo unknown) .; \
	done

push:  ## push both images to your registry: make push REGISTRY=registry.example/team
	@test -n "$(REGISTRY)" || { echo "make push: name your registry: make push REGISTRY=registry.example/team" >&2; exit 1; }
	for target in scheduler worker; do \
	  $(BUILDER) tag localhost/mlho-$$target:$(IMAGE_TAG) $(REGISTRY)/mlho-$$target:$(IMAGE_TAG); \
	  $(BUILDER) push $(REGISTRY)/mlho-$$target:$(IMAGE_TAG); \
	done

sbom: $(STAMP)  ## write the bills of materials of the images: dist/sbom-*.cdx.json
	$(BIN)/python k8s/sbom.py dist

# Uses the cluster of the current kubeconfig. Without one every test is skipped, with this reason.
test-cluster: $(STAMP)  ## run the tests that need a Kubernetes cluster: kind, minikube or your own
	$(BIN)/python -m tests.repeat_failed $(VENV)/.failed-cluster -p no:xdist $(PYTEST_ARGS) tests/cluster

test-cluster-long: export LONG_TESTS := 1
test-cluster-long: test-cluster  ## also run the long tests: each fault separately, two hundred runs at once
