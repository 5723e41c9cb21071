"""How many ways to break a recipe were noticed, and by whom, at the end of a session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..trial import Trial

NO_TESTS = "your tests: none on ft_recipe passes on the sound recipe (marked gpu, they need --ftcheck-device=cpu here)"


def write_score(reporter: Any, texts: Sequence[str]) -> None:
    """Write the score of the catalogue and of the user's tests, what was missed, and what could not be tried."""
    trials = [Trial.from_json(text) for text in texts]
    reporter.write_sep("=", "ftcheck: who notices a broken recipe")
    for recipe in dict.fromkeys(trial.recipe for trial in trials):
        for line in score_lines([trial for trial in trials if trial.recipe == recipe]):
            reporter.write_line(line)


def score_lines(trials: Sequence[Trial]) -> list[str]:
    """``plain_loop: the catalogue noticed 41 of 45; missed: ...``, the same for the tests, and what was not tried."""
    tried = [trial for trial in trials if not trial.not_tried]
    by_check = {trial.sabotage: trial.by_check for trial in tried if trial.by_check is not None}
    by_test = {trial.sabotage: trial.by_test for trial in tried if trial.by_test is not None}
    lines = [_score("the catalogue", by_check)] if by_check else []
    lines += [_score("your tests", by_test)] if by_test else [NO_TESTS]
    reasons: dict[str, list[str]] = {}
    for trial in trials:
        if trial.not_tried:
            reasons.setdefault(trial.not_tried.splitlines()[0], []).append(trial.sabotage)
    lines += [f"could not be tried: {', '.join(ids)} ({reason})" for reason, ids in reasons.items()]
    return [f"{trials[0].recipe}: {line}" for line in lines]


def _score(who: str, noticed_by: dict[str, str]) -> str:
    missed = [id for id, by in noticed_by.items() if not by]
    line = f"{who} noticed {len(noticed_by) - len(missed)} of {len(noticed_by)}"
    return f"{line}; missed: {', '.join(missed)}" if missed else line
