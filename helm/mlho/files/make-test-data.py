"""Write a synthetic cohort to the store, and the run of `helm test` on it."""

import os
import sys
import time
from pathlib import Path

import yaml

from mlho.store import open_store
from scheduler.cli.demo import make_demo

folder, patients = Path("/tmp/cohort"), int(sys.argv[1])  # noqa: S108 - the pod's own volume
spec_path = make_demo(folder, n_patients=patients)
store = open_store(os.environ["MLHO_STORE"])
prefix = f"helm-test/{patients}"
for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".yaml"):
    store.put_if_absent(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())
run = yaml.safe_load(spec_path.read_text(encoding="utf-8"))
now = int(time.time())  # the seed of the run, so that no task is already committed
run["metadata"] = {"name": f"{os.environ['RUN_NAME']}-{now}", "namespace": os.environ["RUN_NAMESPACE"]}
run["spec"]["data"]["uri"] = f"{os.environ['MLHO_STORE'].rstrip('/')}/{prefix}/"
run["spec"]["validation"] |= {"iterations": 2, "seed": now}
run["spec"]["workers"] = {"max": 1, "resources": {"cpu": "500m", "memory": "1Gi", "scratch": "1Gi"}}
Path("/run/mlho/run.yaml").write_text(yaml.safe_dump(run), encoding="utf-8")
