# What to type. `make demo` and `make test` need nothing but make and a Python of at least 3.12: they make the environment
# in .venv from the locked requirements, once. `make` alone lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

# Start-up depends on compiled bytecode (importing numba: 0.15 s instead of 0.5 s), so a shell that forbids it is overruled.
unexport PYTHONDONTWRITEBYTECODE
# Passed on where set: the folder of the reference figures (else ../shared/reference).
export MLHO_REFERENCE

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGES := mlho scheduler worker
CHECKED := $(PACKAGES) tests benchmarks docs k8s

# Tried in order; a name that is there may still be too old, or a shim for a version that is not installed.
PYTHONS := $(PYTHON) python3.13 python3.12 python3.14 python3 /usr/bin/python3.13 /usr/bin/python3.12 /usr/bin/python3 python
# How many tests run side by side, and more for pytest: make test PYTEST_ARGS='-k ledger'.
TEST_PROCESSES ?= 2
# Of the tests with servers, which wait most of their time.
SERVICE_PROCESSES ?= 4
PYTEST_ARGS ?=
# A process takes neighbouring tests, so that it makes once what they share, and steals from others when it has none left.
# The files of a test that passed are deleted at its end, because they may be in memory.
PYTEST := $(BIN)/python -m pytest --dist worksteal -o tmp_path_retention_policy=failed

## Use
.PHONY: demo env help
demo: $(STAMP)  ## train on a made-up cohort, see whether the planted features come back (about two minutes)
	$(BIN)/mlho demo

env: $(STAMP)  ## make the environment in .venv from the locked requirements

help:  ## this list
	@awk 'BEGIN {FS = ":.*  ## "} /^## / {print "\n" substr($$0, 4)} /^[a-z-]+:.*  ## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## Check
.PHONY: check code-tests coverage doctest lint service-tests test test-newest tests types
test: $(STAMP)  ## everything that must pass: check, doctests, all tests
	@$(MAKE) --no-print-directory --jobs 2 --output-sync check $(COMPILED) $(COLLECTED)
	@$(MAKE) --no-print-directory tests

check: lint types  ## ruff, formatting, Dockerfiles, mypy strict

lint: $(STAMP)  ## ruff and formatting; the Dockerfiles, too, where hadolint has a build
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	if [ -x $(BIN)/hadolint ]; then $(BIN)/hadolint Dockerfile tests/cluster/images/services/Dockerfile; fi

types: $(STAMP)  ## mypy, strict
	$(BIN)/mypy

# One process compiles, beside the checks, what each of the parallel test processes would compile for itself. The cache lies beside the modules.
COMPILED := $(VENV)/.compiled
$(COMPILED): $(STAMP) $(shell grep -rl --include='*.py' '^@njit' mlho)
	$(BIN)/python -m tests.compile
	@touch $@

# Likewise, one process writes the bytecode of the test modules: in a new clone this halves the time in which each test process collects its tests.
COLLECTED := $(VENV)/.collected
$(COLLECTED): $(STAMP)
	found=$$($(BIN)/python -m pytest -q --collect-only --ignore tests/cluster tests) || { echo "$$found"; exit 1; }
	@touch $@

# The tests with servers have time limits and mostly wait, so that the others run beside them with a lower priority.
# pytest exits with 5 if PYTEST_ARGS selects none of its tests. The cluster tests need a Kubernetes; see tests/README.md.
BESIDE ?= doctest code-tests
tests: $(STAMP)  ## the tests: those with servers, and beside them the others, whose output follows
	TMPDIR=$$($(BIN)/python -m tests.scratch_folder); export TMPDIR; log=$$TMPDIR/log; kept=; \
	trap 'kill $$beside 2>/dev/null || true; [ -n "$$kept" ] || rm -rf "$$TMPDIR"' EXIT; \
	nice -n 5 $(MAKE) --no-print-directory --keep-going $(BESIDE) > "$$log" 2>&1 & beside=$$!; \
	code=0; $(MAKE) --no-print-directory service-tests || code=$$?; \
	wait $$beside || code=$$?; cat "$$log"; \
	[ $$code = 0 ] || { kept=yes; echo "Files of the tests that failed are in $$TMPDIR; delete them, they may take memory." >&2; }; \
	exit $$code

code-tests: $(STAMP)
	$(PYTEST) -n $(TEST_PROCESSES) --ignore tests/cluster --ignore tests/services $(PYTEST_ARGS) tests || [ $$? = 5 ]

service-tests: $(STAMP)
	$(PYTEST) -n $(SERVICE_PROCESSES) $(PYTEST_ARGS) tests/services || [ $$? = 5 ]

# There is no threshold. Processes that are killed leave no data, and compiled code is not counted.
COVERAGE_TESTS ?= tests/unit tests/contract tests/laws tests/failures
coverage: $(STAMP)  ## lines and branches that the tests without services reach, in the terminal and in dist/coverage
	$(PYTEST) -n $(TEST_PROCESSES) --cov --cov-report=term-missing:skip-covered \
	  --cov-report=html:dist/coverage $(PYTEST_ARGS) $(COVERAGE_TESTS)

# Beyond the bounds of pyproject.toml: what breaks where they are raised? The packages lie over the environment's own, for these tests alone.
NEWEST ?= celery kombu redis
NEWEST_TESTS ?= $(addprefix tests/services/test_,faults_queue.py faults_workers.py queue_keys.py queue_messages.py redis_refusals.py)
test-newest: $(STAMP)  ## the queue's tests with the newest celery, kombu and redis, in an environment that is thrown away
	folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$(BIN)/python -m venv --without-pip "$$folder"; \
	site() { "$$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }; \
	echo "import site; site.addsitedir('$$(site "$(CURDIR)/$(VENV)")')" > "$$(site "$$folder")/locked.pth"; \
	$(BIN)/uv pip install --python "$$folder/bin/python" --upgrade $(NEWEST); \
	"$$folder/bin/python" -m pytest -p no:xdist -p no:cacheprovider -W default $(PYTEST_ARGS) $(NEWEST_TESTS)

doctest: $(STAMP)  ## the examples in docstrings
	$(BIN)/python -m pytest -q --doctest-modules mlho/method

## Show
.PHONY: attribution bench bench-bias bench-encoding bench-levels bench-meds-tab bench-queue bench-scale chaos data-defects false-features mutations planted-truth proofs real-data report-pictures simulated-year
ATTRIBUTION_ARGS ?=
attribution: $(STAMP)  ## ten cohorts, 20,000 fresh patients each: is the AUROC that a run claims that of its model? (half an hour)
	$(BIN)/python benchmarks/attribution.py $(ATTRIBUTION_ARGS)

BENCH ?= jmi_presence jmi_counts tree_matrix mlho_it learning
bench: $(STAMP)  ## speed: ours, the rival's or the limit's figure, and the ratio; what needs absent data is skipped
	missed=""; \
	for benchmark in $(BENCH); do $(BIN)/python benchmarks/$$benchmark.py || missed="$$missed $$benchmark"; done; \
	[ -z "$$missed" ] || { echo "missed:$$missed" >&2; exit 1; }

bench-bias: $(STAMP)  ## audit of groups and months: seconds, and how often the intervals hold the truth (five minutes)
	$(BIN)/python benchmarks/bias.py

bench-encoding: $(STAMP)  ## rows a second and memory, on cohorts of about 5 and 50 million rows that it makes
	$(BIN)/python benchmarks/encoding.py

MEDS_TAB_ARGS ?=
bench-meds-tab: $(STAMP)  ## the features of a run beside MEDS-Tab's, in whole commands; MEDS_TAB_PYTHON names an environment that has it
	$(BIN)/python benchmarks/meds_tab.py $(MEDS_TAB_ARGS)

SCORING_ARGS ?=
bench-scoring: $(STAMP)  ## a night of 1,000,000 patients, with and without reasons, and the floor (ten minutes, 3 GB)
	cd benchmarks && ../$(BIN)/python scoring.py $(SCORING_ARGS)

bench-levels: $(STAMP)  ## ranking of counts and values: noise of many levels, and real data, against R's levels
	$(BIN)/python benchmarks/jmi_levels.py

# Each alone, and the machine's quiet: make bench-queue BENCH_QUEUE=queue_fits; for a look whether they work: BENCH_QUEUE_ARGS=--short.
BENCH_QUEUE ?= queue_speed queue_stages queue_recovery queue_fits queue_memory
BENCH_QUEUE_ARGS ?=
SCALE_ARGS ?=
bench-queue: $(STAMP)  ## speed of the queue, its fits against joblib's, the scheduler's memory: all that is promised of them (half an hour)
	missed=""; \
	for benchmark in $(BENCH_QUEUE); do $(BIN)/python benchmarks/$$benchmark.py $(BENCH_QUEUE_ARGS) || missed="$$missed $$benchmark"; done; \
	[ -z "$$missed" ] || { echo "missed:$$missed" >&2; exit 1; }

bench-scale: $(STAMP)  ## slots that the queue keeps busy, from 1 to 1,024, on a quiet machine (three minutes)
	$(BIN)/python benchmarks/scale.py $(SCALE_ARGS)

DATA_DEFECTS_ARGS ?=
REPORT_PICTURES_ARGS ?=
report-pictures: $(STAMP)  ## pictures of three reports in docs/, of public data; ten minutes, or --store FOLDER to keep the runs
	$(BIN)/python benchmarks/report_pictures.py $(REPORT_PICTURES_ARGS)

data-defects: $(STAMP)  ## defects seeded in clean tables: are they found by the right check, and is nothing found in clean ones?
	PYTHONPATH=. $(BIN)/python tests/failures/data_defects.py $(DATA_DEFECTS_ARGS)

planted-truth: $(STAMP)  ## ten cohorts: do the planted codes come back, and no noise?
	$(BIN)/python benchmarks/planted_truth.py --seeds 10

false-features: $(STAMP)  ## twenty cohorts: do shadow features count the noise in the consensus?
	$(BIN)/python benchmarks/false_features.py

SIMULATED_YEAR_ARGS ?=
simulated-year: $(STAMP)  ## a year of nights: how soon is a loss of AUROC found, and what is seen without labels? (five minutes)
	PYTHONPATH=. $(BIN)/python benchmarks/simulated_year.py $(SIMULATED_YEAR_ARGS)

# A quick look: make time-effects TIME_EFFECTS_ARGS=--short.
.PHONY: time-effects
TIME_EFFECTS_ARGS ?=
time-effects: $(STAMP)  ## 250,000 patients: order, calendar and interactions against the true risks (ten minutes)
	$(BIN)/python benchmarks/time_effects.py $(TIME_EFFECTS_ARGS)

REAL_DATA_ARGS ?=
real-data: $(STAMP)  ## 101,766 real hospital stays, readmission within 30 days: AUROC, minutes, memory
	$(BIN)/python benchmarks/real_data.py $(REAL_DATA_ARGS)

CHAOS_SEEDS ?= 1 2 3
CHAOS_TASKS ?= 2000
# s3: SeaweedFS behind a proxy that fails; local: a folder.
CHAOS_STORE ?= s3
chaos: $(STAMP)  ## kill, empty, refuse, repeat: is the result still the same? Then all corners of the queue's equal bytes
	PYTHONPATH=. $(BIN)/python tests/services/proofs.py chaos --seed $(CHAOS_SEEDS) --tasks $(CHAOS_TASKS) --store $(CHAOS_STORE)
	LONG_TESTS=1 $(BIN)/python -m pytest -p no:xdist $(PYTEST_ARGS) tests/services/test_same_bytes_queue.py

# Some of them: make proofs PROOFS='workers redis'; a tenth of the trials: PROOF_SHARE=0.1.
PROOFS ?= workers redis schedulers poison drain lock
PROOF_SHARE ?= 1
proofs: $(STAMP)  ## kill workers, Redis, schedulers, many times: how long until all goes on, and does anything run twice? (an hour)
	PYTHONPATH=. $(BIN)/python tests/services/proofs.py $(PROOFS) --share $(PROOF_SHARE)

MUTATIONS_ARGS ?=
mutations: $(STAMP)  ## 5,000 specifications and 1,000 tables with faults: a clear error or a result that accounts for all (half an hour)
	PYTHONPATH=. $(BIN)/python tests/failures/mutations.py $(MUTATIONS_ARGS)

# More or fewer sound models: make model-zoo MODEL_ZOO_ARGS='--sound 50'.
.PHONY: model-zoo
MODEL_ZOO_ARGS ?=
model-zoo: $(STAMP)  ## 44 broken models of 32 kinds and 210 sound ones: which do the tests of their bundles reject? (ten minutes)
	PYTHONPATH=. $(BIN)/python benchmarks/model_zoo.py $(MODEL_ZOO_ARGS)

.PHONY: hostile
HOSTILE_SHARE ?= 1
hostile: $(STAMP)  ## 2,000 hostile items for a run's Redis: nothing is executed, deleted, quarantined or ended by them (ten minutes)
	PYTHONPATH=. $(BIN)/python tests/services/proofs.py hostile --share $(HOSTILE_SHARE)

## Keep
.PHONY: clean docs lock release-archive
release-archive: $(STAMP)  ## write what this release leaves behind, which later releases read in their tests
	$(BIN)/python -m tests.upgrade.release

docs: $(STAMP)  ## write what is generated: docs/specification.md, docs/result.schema.json
	$(BIN)/python docs/generate.py

LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.12 \
  --no-emit-index-url --no-emit-find-links --no-annotate --no-header pyproject.toml
# What is locked stays where it fits: `make lock LOCK_ARGS=--upgrade` takes newer versions.
LOCK_ARGS ?=
lock: $(STAMP)  ## lock the requirements again after a change of pyproject.toml
	$(LOCK) $(LOCK_ARGS) --extra scheduler -o requirements/scheduler.txt
	$(LOCK) $(LOCK_ARGS) --extra worker -o requirements/worker.txt
	$(LOCK) $(LOCK_ARGS) --extra scheduler --extra worker --extra embedded --extra tracing --extra signing --extra dev -o requirements/dev.txt

clean:  ## remove the environment and what tools left; stores and demos stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
	find $(PACKAGES) tests benchmarks docs -name __pycache__ -prune -exec rm -rf {} +

# The environment. A changed lock is installed into the same one; `make clean` starts over.
$(STAMP): requirements/dev.txt pyproject.toml
	@python=""; \
	for candidate in $(PYTHONS); do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then python="$$candidate"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "make: no Python of at least 3.12 among: $(PYTHONS). Install one, or name it: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; \
	  exit 1; \
	fi; \
	if [ ! -x $(BIN)/python ]; then \
	  if ! "$$python" -c 'import ensurepip' 2>/dev/null; then \
	    echo "make: $$python has no ensurepip, so it cannot make an environment. On Debian or Ubuntu: apt-get install python3-venv" >&2; \
	    exit 1; \
	  fi; \
	  echo "Making $(VENV) with $$("$$python" --version)"; \
	  "$$python" -m venv $(VENV); \
	fi; \
	if command -v uv >/dev/null; then \
	  install=(uv pip install --quiet --python $(BIN)/python); \
	else \
	  install=($(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile); \
	fi; \
	echo "Installing the locked requirements (about 1.5 GB, some minutes the first time)"; \
	"$${install[@]}" --require-hashes -r requirements/dev.txt; \
	"$${install[@]}" --no-deps --no-build-isolation -e .; \
	echo "Compiling bytecode"; \
	$(BIN)/python -m compileall -q -j 0 -x '/(tests|sympy|kubernetes/aio)/' $(VENV)/lib $(PACKAGES) || true
	@touch $@

## Kubernetes
.PHONY: chart-docs crd image push sbom test-cluster test-cluster-long
crd: $(STAMP)  ## write the CRDs from the models: k8s/crd.yaml and the chart's copy
	$(BIN)/python k8s/generate.py crd

chart-docs: $(STAMP)  ## write the chart's schema and README, and k8s/base (needs helm)
	$(BIN)/python k8s/generate.py chart-docs

# docker or podman; a base of your own: make image IMAGE_ARGS='--build-arg BASE=registry.example/python:3.13-slim'.
export BUILDER ?= $(shell command -v docker || command -v podman || echo docker)
# The chart asks for this tag, and for these names unless its values say otherwise.
IMAGE_TAG ?= $(shell sed -n 's/^appVersion: //p' helm/mlho/Chart.yaml)
IMAGE_ARGS ?=
image:  ## build both images: localhost/mlho-scheduler and localhost/mlho-worker
	for target in scheduler worker; do \
	  $(BUILDER) build $(IMAGE_ARGS) --target $$target --tag localhost/mlho-$$target:$(IMAGE_TAG) \
	    --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) \
	    --build-arg CREATED=$$(git log -1 --format=%cI 2>/dev/null || echo unknown) .; \
	done

push:  ## push both images to a registry of yours: make push REGISTRY=registry.example/team
	@test -n "$(REGISTRY)" || { echo "make push: name your registry: make push REGISTRY=registry.example/team" >&2; exit 1; }
	for target in scheduler worker; do \
	  $(BUILDER) tag localhost/mlho-$$target:$(IMAGE_TAG) $(REGISTRY)/mlho-$$target:$(IMAGE_TAG); \
	  $(BUILDER) push $(REGISTRY)/mlho-$$target:$(IMAGE_TAG); \
	done

sbom: $(STAMP)  ## the images' bills of materials: dist/sbom-*.cdx.json
	$(BIN)/python k8s/sbom.py dist

# Uses the cluster that the current kubeconfig names; without one every test says so and is skipped.
test-cluster: $(STAMP)  ## the tests that need a Kubernetes: kind, minikube, or yours
	$(BIN)/python -m pytest -p no:xdist $(PYTEST_ARGS) tests/cluster

test-cluster-long: export LONG_TESTS := 1
test-cluster-long: test-cluster  ## and those that take long: each fault alone, two hundred runs at once
