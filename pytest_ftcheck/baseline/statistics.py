"""The statistical gates: step time, loss, and the claim that two losses are equal.

Each takes one number for each pair and decides by the pairs' confidence interval: *failed* where the limit says that it
got worse, *passed* where the limit says that it did not, by as much as matters; else *unstable*, which happens exactly
where the spread of the samples leaves the gate powerless. A sample that is not finite fails. How often each gate is
wrong, and what it finds, is measured by simulation: docs/statistics.md.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from ..errors import ComparisonError
from ..interval import Interval, normal, signed_rank, signed_rank_p, student
from .decision import FAILED, PASSED, UNSTABLE, Decision, not_finite

# Step time. Up to 2 % more is nobody's alarm: repeated runs of the same code on one machine differ by 1.8 %, and what a
# process happens to get of memory and cores stays with it. 5 % is what must be found.
TIME_MARGIN, TIME_EFFECT, ALPHA = 0.02, 0.05, 0.01
# The smallest p of a signed-rank test with 6 pairs is 1/64.
FEWEST_PAIRS = 7
# Loss in nats: what matters, and from how many seeds on their own spread is estimated well enough.
LOSS_MARGIN, ENOUGH_SEEDS, EQUALITY_ALPHA = 0.01, 7, 0.05
# How improbable a spread may be before the one from history is not believed.
STRANGE = 0.001


def step_time(
    log_ratios: Sequence[float], alpha: float = ALPHA, margin: float = TIME_MARGIN, effect: float = TIME_EFFECT
) -> Decision:
    """Whether a step takes longer: ``log_ratios`` [pairs] are log(new seconds / old seconds), interleaved.

    Failed: longer by more than ``margin``, by Wilcoxon's signed-rank test at ``alpha``. Passed: not that, and longer by
    ``effect`` or more is ruled out at ``alpha``, too. So pairs that are really ``effect`` slower pass with probability
    alpha at most, however much they scatter. Raises ComparisonError for fewer than 7 pairs.
    """
    pairs = len(log_ratios)
    if pairs < FEWEST_PAIRS:
        raise ComparisonError(f"step time is compared over {pairs} pairs; allowed: at least {FEWEST_PAIRS}")
    interval = signed_rank(log_ratios, 1 - 2 * alpha)
    if not math.isfinite(interval.estimate):
        return not_finite(pairs, alpha, interval)
    p = signed_rank_p([one - math.log1p(margin) for one in log_ratios])
    reason = f"{math.exp(interval.estimate):.4g}x the time ({_ratios(interval)}, {pairs} pairs)"
    if interval.low > math.log1p(margin):
        return Decision(FAILED, f"{reason}: more than {margin:.0%} slower", p, interval, pairs, alpha)
    if interval.high < math.log1p(effect):
        close = interval.estimate > math.log1p(margin)
        return Decision(PASSED, reason, p, interval, pairs, alpha, close)
    reason += f"; neither {margin:.0%} nor {effect:.0%} slower is ruled out"
    return Decision(UNSTABLE, reason, p, interval, pairs, alpha)


def more_pairs(
    log_ratios: Sequence[float], alpha: float = ALPHA, margin: float = TIME_MARGIN, effect: float = TIME_EFFECT
) -> int:
    """How many more pairs ``step_time`` probably needs, by the spread of these, until one of ``margin`` and ``effect``
    is ruled out; 0 where one is, wherever the interval lies. So going on for longer favours neither verdict.
    """
    gap = math.log1p(effect) - math.log1p(margin)
    half = signed_rank(log_ratios, 1 - 2 * alpha).half_width
    if not half > gap / 2:  # also where a sample is not finite: that is decided
        return 0
    pairs = len(log_ratios)
    return pairs if math.isinf(half) else math.ceil(pairs * ((2 * half / gap) ** 2 - 1))


def loss_not_worse(
    differences: Sequence[float], alpha: float = ALPHA, margin: float = LOSS_MARGIN, sd: float | None = None
) -> Decision:
    """Whether the loss got worse: ``differences`` [seeds] are new loss - old loss (nats) of the same seeds.

    Passed: worse by ``margin`` or more is ruled out at ``alpha`` (non-inferiority). Failed: not that, and it is worse
    at ``alpha``. Under 7 seeds ``sd``, the standard deviation of such differences in earlier builds, takes the place of
    their own; then a spread that this history does not explain is unstable. Raises ComparisonError for an ``sd`` that
    is not above 0, and for a single seed without one.
    """
    seeds = len(differences)
    interval = _loss_interval(differences, alpha, sd)
    if not math.isfinite(interval.estimate):
        return not_finite(seeds, alpha, interval)
    p = _p_above_zero(differences, sd)
    reason = f"loss {interval.estimate:+.4g} ({_nats(interval)}, {seeds} paired seeds)"
    if sd is not None and seeds < ENOUGH_SEEDS and _is_strange(differences, sd):
        reason += f"; the seeds differ by more than in earlier builds (standard deviation {sd:.4g})"
        return Decision(UNSTABLE, reason, p, interval, seeds, alpha)
    if interval.high < margin:
        return Decision(PASSED, reason, p, interval, seeds, alpha)
    if interval.low > 0:
        return Decision(FAILED, f"{reason}: worse, and by {margin:.4g} is not ruled out", p, interval, seeds, alpha)
    return Decision(UNSTABLE, f"{reason}; neither 0 nor {margin:.4g} is ruled out", p, interval, seeds, alpha)


def losses_equal(differences: Sequence[float], alpha: float = EQUALITY_ALPHA, margin: float = LOSS_MARGIN) -> Decision:
    """Whether two losses are the same for practical purposes: ``differences`` [seeds] (nats), two one-sided t-tests.

    Passed: differing by ``margin`` or more, either way, is ruled out at ``alpha``: the claim of equality is wrong that
    often at most. Failed: they differ by more than ``margin``, at ``alpha``. That no difference was found is neither.
    Raises ComparisonError for a single seed.
    """
    seeds = len(differences)
    interval = _loss_interval(differences, alpha, None)
    if not math.isfinite(interval.estimate):
        return not_finite(seeds, alpha, interval)
    p = max(_t_p([margin - one for one in differences]), _t_p([margin + one for one in differences]))
    reason = f"losses differ by {interval.estimate:+.4g} ({_nats(interval)}, {seeds} paired seeds), margin {margin:.4g}"
    if -margin < interval.low and interval.high < margin:
        return Decision(PASSED, reason, p, interval, seeds, alpha)
    if interval.low > margin or interval.high < -margin:
        return Decision(FAILED, reason, p, interval, seeds, alpha)
    return Decision(UNSTABLE, reason, p, interval, seeds, alpha)


def _loss_interval(differences: Sequence[float], alpha: float, sd: float | None) -> Interval:
    if sd is not None and not 0 < sd < math.inf:
        raise ComparisonError(f"sd is {sd!r}; allowed: a number of nats above 0")
    if len(differences) < (2 if sd is None else 1):
        raise ComparisonError(f"losses are compared over {len(differences)} seeds; allowed: at least 2 paired seeds")
    if sd is None or len(differences) >= ENOUGH_SEEDS:
        return student(differences, 1 - 2 * alpha)
    return normal(differences, sd, 1 - 2 * alpha)


def _p_above_zero(differences: Sequence[float], sd: float | None) -> float:
    if sd is None or len(differences) >= ENOUGH_SEEDS:
        return _t_p(differences)
    from scipy.special import ndtr

    return float(ndtr(-math.fsum(differences) / (sd * math.sqrt(len(differences)))))


def _is_strange(differences: Sequence[float], sd: float) -> bool:
    """Whether normal differences of this ``sd`` would be so far apart with a probability below STRANGE."""
    from scipy.special import chdtrc

    mean = math.fsum(differences) / len(differences)
    squares = math.fsum((one - mean) ** 2 for one in differences)
    return len(differences) > 1 and not float(chdtrc(len(differences) - 1, squares / sd**2)) >= STRANGE


def _t_p(values: Sequence[float]) -> float:
    """The one-sided p of Student's test for a mean above 0; values without any spread leave no doubt."""
    if len(set(values)) == 1:
        return 0.0 if values[0] > 0 else 1.0
    from scipy.special import stdtr

    t = statistics.fmean(values) / statistics.stdev(values) * math.sqrt(len(values))
    return float(stdtr(len(values) - 1, -t))


def _ratios(interval: Interval) -> str:
    return f"interval {math.exp(interval.low):.4g} to {math.exp(interval.high):.4g}"


def _nats(interval: Interval) -> str:
    return f"interval {interval.low:+.4g} to {interval.high:+.4g} nats"
