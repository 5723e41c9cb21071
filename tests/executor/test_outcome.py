from __future__ import annotations

import pytest
from builders import a_run

from pytest_ftcheck.errors import ExecutorError, TimeLimitError, TrainingError
from pytest_ftcheck.executor.executor import Trained
from pytest_ftcheck.executor.outcome import NodeTraceback, Outcome


def returned(outcome: Outcome) -> Trained:
    """What the session gets of it: it comes as text."""
    return Outcome.from_json(outcome.to_json()).trained()


def failing() -> Trained:
    try:
        {}["row"]
    except KeyError as error:
        raise TrainingError("full: train(job) raised KeyError: 'row'\n  at /copy/finetune.py:31 in train") from error
    raise AssertionError


def test_a_run_comes_back_as_it_was() -> None:
    trained = Trained(a_run("lora", seed=2), {"/project/data.txt": "digest"}, stored=True)
    assert returned(Outcome.of("a node", lambda: trained, str)) == trained


def test_an_error_comes_back_with_its_class_its_text_and_the_end_of_the_traceback() -> None:
    outcome = Outcome.of("node-7", failing, lambda text: text.replace("/copy/", "/project/"))
    with pytest.raises(TrainingError) as caught:
        returned(outcome)
    text = "full: train(job) raised KeyError: 'row'\n  at /project/finetune.py:31 in train"
    assert str(caught.value) == text
    assert isinstance(caught.value.__cause__, NodeTraceback)
    lines = str(caught.value.__cause__).splitlines()
    assert lines[0] == "on node node-7"
    assert lines[-1] == "KeyError: 'row'"
    assert any("in failing" in line for line in lines)


@pytest.mark.parametrize("kind", [TimeLimitError, ExecutorError])
def test_each_of_our_errors_keeps_its_class(kind: type[Exception]) -> None:
    def failing() -> Trained:
        raise kind("why")

    with pytest.raises(kind, match=r"^why$"):
        returned(Outcome.of("a node", failing, str))


def test_an_error_of_somebody_else_says_what_it_is() -> None:
    with pytest.raises(ExecutorError, match=r"^ZeroDivisionError: division by zero$") as caught:
        returned(Outcome.of("a node", lambda: 1 / 0, str))  # type: ignore[arg-type, return-value]
    assert "division by zero" in str(caught.value.__cause__)


def test_a_name_that_is_none_of_our_errors_is_not_looked_up() -> None:
    with pytest.raises(ExecutorError, match=r"^text$"):
        Outcome("a node", error="annotations", text="text").trained()
