"""One module per kind of task. A task reads inputs by key and writes one artifact. To add a step, add a module and one line here."""

from collections.abc import Mapping
from typing import Final

from mlho.steps.base import Step, register
from mlho.steps.encode.apply_rules import ApplyRules
from mlho.steps.encode.balance_ledger import BalanceLedger
from mlho.steps.encode.check_leakage import CheckLeakage
from mlho.steps.encode.check_quality import CheckQuality
from mlho.steps.encode.check_splits import CheckSplits
from mlho.steps.encode.define_cohort import DefineCohort
from mlho.steps.encode.define_samples import DefineSamples
from mlho.steps.encode.describe_codes import DescribeCodes
from mlho.steps.encode.encode_partition import EncodePartition
from mlho.steps.encode.extract_rule_events import ExtractRuleEvents
from mlho.steps.encode.find_descendants import FindDescendants
from mlho.steps.encode.inspect_tables import InspectTables
from mlho.steps.encode.merge_dictionary import MergeDictionary
from mlho.steps.encode.pack_features import PackFeatures
from mlho.steps.learn.finish_iteration import FinishIteration
from mlho.steps.learn.run_consensus_fold import RunConsensusFold
from mlho.steps.learn.run_fold import RunFold
from mlho.steps.learn.run_iteration import RunIteration
from mlho.steps.learn.run_subsample import RunSubsample
from mlho.steps.learn.select_features import SelectFeatures
from mlho.steps.learn.summarize_run import SummarizeRun
from mlho.steps.publish.evaluate_later import EvaluateLater
from mlho.steps.publish.fit_final_model import FitFinalModel
from mlho.steps.publish.judge_model import JudgeModel
from mlho.steps.publish.pin_earlier import PinEarlier
from mlho.steps.publish.recalibrate_bundle import RecalibrateBundle
from mlho.steps.publish.verify_model import TestModel
from mlho.steps.publish.write_report import WriteReport
from mlho.steps.score.commit_scores import CommitScores
from mlho.steps.score.compare_scores import CompareScores
from mlho.steps.score.define_scored import DefineScored
from mlho.steps.score.deliver_part import DeliverPart
from mlho.steps.score.inspect_scored import InspectScored
from mlho.steps.score.pin_bundle import PinBundle
from mlho.steps.score.score_absent import ScoreAbsent
from mlho.steps.score.score_partition import ScorePartition
from mlho.steps.score.verify_bundle import TestBundle

STEPS: Final[Mapping[str, Step]] = register(
    (
        FindDescendants(),
        ExtractRuleEvents(),
        ApplyRules(),
        DefineCohort(),
        DefineSamples(),
        InspectTables(),
        EncodePartition(),
        DescribeCodes(),
        MergeDictionary(),
        PackFeatures(),
        BalanceLedger(),
        CheckLeakage(),
        CheckQuality(),
        CheckSplits(),
        SelectFeatures(),
        RunFold(),
        FinishIteration(),
        RunIteration(),
        RunSubsample(),
        RunConsensusFold(),
        SummarizeRun(),
        JudgeModel(),
        EvaluateLater(),
        FitFinalModel(),
        TestModel(),
        WriteReport(),
        RecalibrateBundle(),
        PinEarlier(),
        PinBundle(),
        TestBundle(),
        InspectScored(),
        DefineScored(),
        ScorePartition(),
        ScoreAbsent(),
        DeliverPart(),
        CommitScores(),
        CompareScores(),
    )
)
