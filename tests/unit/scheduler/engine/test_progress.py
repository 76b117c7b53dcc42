"""Progress, rate and remaining time of a run."""

from scheduler.engine.progress import Counts, Facts, RateEstimator, StageProgress


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_the_stage_is_the_first_that_is_not_done():
    """The stage is the first unfinished one; tasks are counted over all stages."""
    estimator = RateEstimator(Counts(slots=2), clock=Clock())
    assert estimator.take(
        (StageProgress("cohort", 1, 1), StageProgress("encode", 3, 3), StageProgress("learn", 2, 6)), 2
    ) == Facts(stage="learn", done=6, total=10, running=2, slots=2)


def test_a_run_that_is_done_is_in_its_last_stage():
    """A finished run is in its last stage, so that there is always a stage to show."""
    assert (
        RateEstimator(Counts()).take((StageProgress("cohort", 1, 1), StageProgress("report", 1, 1)), 0).stage
        == "report"
    )


def test_the_rate_is_that_of_the_last_half_minute():
    """The rate is measured over the last 30 s, so that a slow start does not count: 60 tasks in 30 s and 40 left give 20 s."""
    clock = Clock()
    estimator = RateEstimator(Counts(), clock=clock)
    estimator.take((StageProgress("learn", 0, 101),), 1)
    clock.now += 1000
    estimator.take((StageProgress("learn", 1, 101),), 1)
    clock.now += 29
    facts = estimator.take((StageProgress("learn", 59, 101),), 1)
    assert (facts.rate, facts.seconds_left) == (2.0, 21.0)


def test_no_rate_is_made_up():
    """There is no rate for less than a second or without a finished task."""
    clock = Clock()
    estimator = RateEstimator(Counts(), clock=clock)
    estimator.take((StageProgress("learn", 0, 9),), 1)
    clock.now += 0.5
    assert estimator.take((StageProgress("learn", 5, 9),), 1).rate is None
    still = RateEstimator(Counts(), clock=clock)
    still.take((StageProgress("learn", 5, 9),), 1)
    clock.now += 20
    facts = still.take((StageProgress("learn", 5, 9),), 1)
    assert (facts.rate, facts.seconds_left) == (None, None)


def test_earlier_tasks_count_as_done_and_not_in_the_rate():
    """Tasks that were done before this command count as done, but not in the rate: 50 of 100 done, then 10 in 10 s."""
    clock = Clock()
    estimator = RateEstimator(Counts(), clock=clock)
    estimator.take((StageProgress("learn", 50, 100),), 1)
    clock.now += 10
    facts = estimator.take((StageProgress("learn", 60, 100),), 1)
    assert (facts.done, facts.rate, facts.seconds_left) == (60, 1.0, 40.0)
