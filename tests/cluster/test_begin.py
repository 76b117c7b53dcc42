"""The commands of docs/kubernetes.md from nothing to a report. Only the environment, the images and the namespace are replaced."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

from tests.cluster.conftest import REPO, new_namespace
from tests.cluster.here import Here, Outcome, files_in
from tests.cluster.stack import BUCKET, CHART, adopt_crds, image_values
from tests.cluster.storage import download, storage_here, trial_objects
from tests.limits import SLOWER

MINUTES = 5  # limit from nothing to the report


def documented(heading: str) -> str:
    """Return the first shell block under a heading of docs/kubernetes.md."""
    text = (REPO / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {heading}\n.*?^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def checkout(folder: Path) -> Path:
    """Copy the files that a user needs from the repository, with the tests' images."""
    shutil.copytree(CHART, folder / "helm" / "mlho")
    examples = folder / "k8s" / "examples"
    shutil.copytree(REPO / "k8s" / "examples", examples)
    storage = examples / "trial" / "storage.yaml"
    storage.write_text(yaml.safe_dump_all(trial_objects(with_cohort=True)), encoding="utf-8")
    values = examples / "trial" / "values.yaml"
    document = yaml.safe_load(values.read_text(encoding="utf-8"))
    values.write_text(yaml.safe_dump(document | image_values()), encoding="utf-8")
    return folder


def follow(script: str, namespace: str, folder: Path, kubeconfig: Path) -> str:
    """Run a documented script without its creation of environment, images, cluster and namespace, and return the output."""
    prefixes = ("make env", ". .venv/", "make image", "kind ", "kubectl create namespace")
    lines = [line for line in script.splitlines() if not line.startswith(prefixes)]
    text = re.sub(r"namespace([= ])mlho\b", rf"namespace\1{namespace}", "\n".join(lines))
    kinder = "set -euo pipefail; trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", kinder + text],
        cwd=folder,
        env={**os.environ, "PATH": path, "KUBECONFIG": str(kubeconfig)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SLOWER * 60 * MINUTES + 60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def carried_out_here(tables: dict[str, bytes], folder: Path) -> Outcome:
    """Carry out the example's run on this machine, on the tables in the cluster."""
    cohort = folder / "cohort"
    for name, content in tables.items():
        (cohort / name).parent.mkdir(parents=True, exist_ok=True)
        (cohort / name).write_bytes(content)
    spec = yaml.safe_load((REPO / "k8s" / "examples" / "run.yaml").read_text(encoding="utf-8"))["spec"]
    runs = Here(cohort, folder)
    try:
        return runs.begin(spec).result()
    finally:
        runs.close()


def dry(notes: str) -> str:
    """Submit the first run of the chart's notes as a dry run, and return the output."""
    found = re.search(r"^kubectl -n \S+ apply -f - <<'RUN'\n.*?^RUN\n", notes, re.MULTILINE | re.DOTALL)
    assert found is not None
    script = found[0].replace(" apply ", " apply --dry-run=server ")
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout


def test_the_documented_way_from_nothing_to_a_report(kubeconfig: str, tmp_path: Path):
    """The documented commands produce a report within five minutes, and result and bundle equal those of ``mlho run`` on this machine."""
    own_config = tmp_path / "kubeconfig"  # the commands choose a namespace in it
    shutil.copy(kubeconfig, own_config)
    with new_namespace("begin") as kubectl:
        folder = checkout(tmp_path / "checkout")
        adopt_crds(kubectl.namespace)
        began = time.monotonic()
        output = follow(documented("Begin"), kubectl.namespace, folder, own_config)
        took = time.monotonic() - began
        copied = dry(output.replace("metadata: {name: first}", "metadata: {name: other}"))
        print(output, f"\n{took:.0f} s")  # noqa: T201 - the transcript of docs/kubernetes.md

        with storage_here(kubectl) as s3:
            tables = download(s3, BUCKET, "cohort/")
        subprocess.run(["helm", "uninstall", "mlho", f"--namespace={kubectl.namespace}"], check=True)

    assert took < SLOWER * 60 * MINUTES
    assert "trainingrun.mlho.io/first condition met" in output
    assert copied == "trainingrun.mlho.io/other created (server dry run)\n"
    wanted = carried_out_here(tables, tmp_path)
    assert wanted.digest in output
    assert files_in(folder / "first" / "bundle") == wanted.bundle()
    assert b"<html" in (folder / "first" / "report.html").read_bytes()
