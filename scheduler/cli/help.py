"""Help texts of the ``mlho`` command."""

from typing import Final

ABOUT: Final = """\
Train models on electronic health records: select stable features, fit, calibrate and evaluate models, and report.

  mlho demo                    generate a cohort with known effects, run on it, and write the report: start here
  mlho init FOLDER             write a specification for the tables in a folder
  mlho validate spec.yaml      check a specification and its tables: columns, ids, dates, outcomes
  mlho changes spec.yaml       months in which codes begin, end, rise or fall, or their effects change
  mlho plan spec.yaml          check a specification, and show tasks and cost of the run
  mlho run spec.yaml           carry out the run; after an interruption, the same command continues it
  mlho list                    the runs of a store: state, duration, headline; failed ones with their reason
  mlho show RUN                the result of a run in the terminal
  mlho report RUN              print the path of a run's report; --open shows it in your browser
  mlho delete RUN, mlho prune  delete runs, and artifacts that no run uses
  mlho purge FILE              find and delete the data that the store holds on patients listed in a file
  mlho compare RUN_A RUN_B     the differences between two runs: performance, features, odds ratios, rows, codes
  mlho score score.yaml        score patients with a run's bundle
  mlho evaluate BUNDLE         evaluate a bundle on other labelled data: external validation
  mlho recalibrate BUNDLE      make a new version of a model, calibrated on recent labels
  mlho export RUN              copy report, result and bundle, or the scores, into a folder

With a queue (--broker), workers on any number of machines share a run:
  mlho status RUN              progress, workers and quarantined tasks
  mlho cancel RUN              stop the run; committed results are kept
  mlho retry RUN               give quarantined tasks new attempts

In a Kubernetes cluster (docs/kubernetes.md), with your kubeconfig:
  mlho submit spec.yaml        start the run in the cluster; with --wait, wait until it has ended
  mlho wait, status, logs, suspend, resume, cancel, retry, export trainingrun/NAME
"""

COMPLETION_ABOUT: Final = """\
Print a script with which your shell completes commands, options and their values. Load it at each start of the shell:

  bash   echo 'eval "$(mlho completion bash)"' >> ~/.bashrc
  zsh    echo 'eval "$(mlho completion zsh)"' >> ~/.zshrc
  fish   mlho completion fish > ~/.config/fish/completions/mlho.fish
"""

SCHEMA_ABOUT: Final = """\
Print the JSON Schema of a specification, which editors use to complete names and show their meaning. An
editor with a YAML language server reads it if this is the first line of the file (`mlho init` writes both):

  # yaml-language-server: $schema=training-run.schema.json

  mlho schema TrainingRun > training-run.schema.json
"""

DELETE_ABOUT: Final = """\
Delete runs: their folders, and the artifacts that no other run uses. Artifacts that were written in the last 24 hours stay; a
later `mlho prune` removes them. To restore a deleted run, run its specification again.

Without --yes the command lists the objects to delete, with their sizes, and asks for confirmation on a terminal. Active runs are not affected. An
interrupted deletion is completed by the next one. An active run cannot be deleted.
"""

PRUNE_ABOUT: Final = """\
Delete old runs, and the artifacts that no run uses.

  mlho prune                            only artifacts, such as those of deleted runs and of earlier versions
  mlho prune --keep 3                   also all ended runs but the 3 newest of each name
  mlho prune --keep 3 --older-than 90d  only runs that were started more than 90 days ago

Runs are counted by name, kind and state, so that failed runs never displace a finished one. The newest run of each is always
kept, and so is every run that is running or stopped. Artifacts that were written in the last 24 hours, by the clock of the store, stay.
Without --yes the command lists the objects to delete, with their sizes, and asks for confirmation on a terminal. Active runs are not affected, and
several `mlho prune` may run concurrently. After an interruption, the same command completes the deletion.
"""

LIST_ABOUT: Final = """\
List the runs of a store, the newest first: name, kind, id, latest start, duration over all starts, state, and headline.

  running      a process is running it, here or elsewhere
  stopped      ended without a result: the same command continues it. A killed run is shown as stopped after five minutes
  finished     its report and its bundle, or its scores, are published
  failed       with the reason
  cancelled    by mlho cancel
  deleting     its deletion was interrupted: mlho delete RUN completes it

Other commands take an id, the beginning of an id, or a name. A name means the newest run of that name.
"""

SCORE_ABOUT: Final = """\
Score patients with a bundle: each partition of events becomes a Parquet part with a calibrated probability, the alerts
and the reasons for each sample.

  bundle: {uri: run:ID}        the bundle of a run in this store; or its folder
  index: {date: 2026-11-24}    score all patients with an event up to that day; or use a cohort table with patients and index dates

The bundle's own tests run first. The parts become visible with runs/ID/scores/manifest.json, which is written last, so that readers
see all scores or none. Repeating the command on the same data computes nothing.

With --as-of, `{date}` in the specification becomes the date of the night, and the run's name ends with it. A night that was scored before is kept,
also if its tables have changed since (late data) or the channel shows another model; --again scores it with the current tables and model.
"""

RUN_ABOUT: Final = """\
Carry out a training run on this machine.

The specification is one YAML file; `mlho plan` checks it without running. Artifacts go to the store (a folder, or
s3://bucket/prefix).
Committed results are never computed again: after Ctrl-C or a crash the same command continues the run.
The number of workers affects the duration only.

With --broker, several specifications run concurrently and share the workers evenly. A failure of one does not affect
the others.
"""

VALIDATE_ABOUT: Final = """\
Check a specification and look at its tables, without running anything.

Opens every table, reads the small ones and a sample of the events: columns and types, patient ids that match, date formats, the
share of rows that each rule would drop, outcomes, demographics. An error would stop a run; a warning would not. No value of a
patient is printed. `mlho plan`, `mlho run` and `mlho score` do the same before they begin.
"""
