from __future__ import annotations

from pytest_ftcheck.checks.check import Finding
from pytest_ftcheck.checks.verdict import MOST_LINES, Verdict

FINDING = Finding("3 of 4 labels are wrong", "a cause", "a remedy", ("row 1: 2", "row 2: 7"))


def verdict(status: str = "failed", findings: tuple[Finding, ...] = (), reason: str = "") -> Verdict:
    return Verdict("labels-shifted-once", "labels", "lora", "a claim", status, findings, reason, ("https://bugs/1",))


def test_it_is_read_from_the_number_to_the_link() -> None:
    assert str(verdict(findings=(FINDING,))).splitlines() == [
        "labels-shifted-once (lora): 3 of 4 labels are wrong",
        "  row 1: 2",
        "  row 2: 7",
        "  likely cause: a cause",
        "  remedy: a remedy",
        "  claim: a claim",
        "  see: https://bugs/1",
    ]


def test_without_findings_it_is_the_status_and_the_reason() -> None:
    assert str(verdict("passed")) == "labels-shifted-once (lora): passed"
    blocked = verdict("blocked", reason="train(job) raised\n  at loop.py:3")
    assert str(blocked) == "labels-shifted-once (lora): blocked: train(job) raised\n  at loop.py:3"
    assert blocked.headline == "train(job) raised"


def test_many_findings_fit_on_a_screen_and_none_is_passed_over_in_silence() -> None:
    lines = verdict(findings=(FINDING,) * 30).lines()
    assert len(lines) <= MOST_LINES
    assert lines.count("3 of 4 labels are wrong") == 4
    assert "and 26 more, such as: 3 of 4 labels are wrong" in lines
    assert lines[-1] == "  see: https://bugs/1"


def test_a_finding_with_much_evidence_is_cut() -> None:
    long = Finding("1 of 2", "a cause", "a remedy", tuple(f"row {i}" for i in range(100)))
    assert len(verdict(findings=(long, FINDING)).lines()) <= MOST_LINES + 1


def test_only_what_is_wrong_has_failed_and_only_what_was_looked_at_applies() -> None:
    statuses = ("passed", "not applicable", "expected failure", "failed", "blocked", "stale", "error")
    assert [s for s in statuses if verdict(s).failed] == ["failed", "blocked", "stale", "error"]
    assert [s for s in statuses if not verdict(s).applies] == ["not applicable"]


def test_json_and_back() -> None:
    made = verdict(findings=(FINDING, FINDING), reason="why")
    assert Verdict.from_json(made.to_json()) == made
