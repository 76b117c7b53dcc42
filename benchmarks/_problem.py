"""A learning problem as the iterations of a run read it, prepared from a specification in this process."""

from pathlib import Path

from mlho.spec.training import load_spec
from mlho.steps.base import Artifact, Work, execute
from mlho.steps.inputs import open_problem
from mlho.steps.records import Commit
from mlho.store import open_store
from mlho.training.iterations.problem import Problem
from scheduler.engine.manifest import make_manifest
from scheduler.engine.plan import plan_cohort, plan_run

PREPARATION = ("encode", "concepts", "dictionary", "pack", "ledger", "splits", "leakage", "quality")
FIRST = ("select/0001", "iteration/0001")  # in a plan with tasks by fold, this task ends the iteration


def prepare(spec_path: Path, data: Path, store_path: Path) -> Problem:
    """Execute the tasks up to the packed matrix, and open the problem of the iterations."""
    spec, store = load_spec(spec_path), open_store(str(store_path))
    manifest = make_manifest(spec.spec.data.tables, data)
    commits: dict[str, Commit] = {}
    (cohort,) = plan_cohort(spec.spec, manifest).values()
    commits["cohort"] = execute(cohort.bind({}), store, data, scratch=store.scratch()).commit
    facts = commits["cohort"].facts
    plan = plan_run(spec.spec, manifest, n_blocks=facts["n_blocks"], n_samples=facts["n_samples"])
    for name, planned in plan.items():
        if name.split("/")[0] in PREPARATION:
            commits[name] = execute(planned.bind(commits), store, data, scratch=store.scratch()).commit
    planned = next(plan[name] for name in FIRST if name in plan)
    inputs = {
        name: tuple(Artifact(store, commits[task]) for task in tasks) for name, tasks in planned.needs.items()
    }
    return open_problem(Work(planned.bind(commits), inputs, data, Path()))
