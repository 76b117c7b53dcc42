"""One file per kind of task: inputs by key, one artifact out. Adding a step is its file and one line here."""

from collections.abc import Mapping
from typing import Final

from mlho.steps.balance_ledger import BalanceLedger
from mlho.steps.base import Step
from mlho.steps.check_splits import CheckSplits
from mlho.steps.commit_scores import CommitScores
from mlho.steps.define_cohort import DefineCohort
from mlho.steps.define_scored import DefineScored
from mlho.steps.describe_codes import DescribeCodes
from mlho.steps.encode_partition import EncodePartition
from mlho.steps.finish_iteration import FinishIteration
from mlho.steps.fit_final_model import FitFinalModel
from mlho.steps.judge_model import JudgeModel
from mlho.steps.merge_dictionary import MergeDictionary
from mlho.steps.pack_features import PackFeatures
from mlho.steps.pin_bundle import PinBundle
from mlho.steps.run_consensus_fold import RunConsensusFold
from mlho.steps.run_fold import RunFold
from mlho.steps.run_iteration import RunIteration
from mlho.steps.run_subsample import RunSubsample
from mlho.steps.score_absent import ScoreAbsent
from mlho.steps.score_partition import ScorePartition
from mlho.steps.select_features import SelectFeatures
from mlho.steps.summarize_run import SummarizeRun
from mlho.steps.test_bundle import TestBundle
from mlho.steps.test_model import TestModel
from mlho.steps.write_report import WriteReport

STEPS: Final[Mapping[str, Step]] = {
    step.kind: step
    for step in (
        DefineCohort(),
        EncodePartition(),
        DescribeCodes(),
        MergeDictionary(),
        PackFeatures(),
        BalanceLedger(),
        CheckSplits(),
        SelectFeatures(),
        RunFold(),
        FinishIteration(),
        RunIteration(),
        RunSubsample(),
        RunConsensusFold(),
        SummarizeRun(),
        JudgeModel(),
        FitFinalModel(),
        TestModel(),
        WriteReport(),
        PinBundle(),
        TestBundle(),
        DefineScored(),
        ScorePartition(),
        ScoreAbsent(),
        CommitScores(),
    )
}
