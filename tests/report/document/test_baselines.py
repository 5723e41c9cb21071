"""What a report says of baselines."""

from __future__ import annotations

from report.test_baselines import compared, judged

from pytest_ftcheck.baseline.comparison import Comparison
from pytest_ftcheck.baseline.judgement import Judgement
from pytest_ftcheck.baseline.past import Accepted, Past, Pasts
from pytest_ftcheck.report.document import baselines as module
from pytest_ftcheck.report.document.baselines import baselines, so_far
from pytest_ftcheck.report.document.blocks import Lines, Table

METRIC, TEST = "lora/memory.peak_bytes", "test_it.py::test_it"


def accepted(value: float, because: str = "the first", commit: str = "0123456789ab", *, by: bool = False) -> Accepted:
    return Accepted(f"{value} MB", value, because, commit, "2026-01-02" if commit else "", by)


def tables(*judgements: Judgement, pasts: Pasts = Pasts()) -> dict[str, Table]:  # noqa: B008 (it is frozen)
    return {block.caption: block for block in baselines(judgements, pasts) if isinstance(block, Table)}


def test_what_did_not_pass_has_all_that_was_accepted_of_it_the_newest_first() -> None:
    several = (accepted(1, by=True), accepted(2, "more layers"), accepted(3, "not yet", ""))
    found = tables(judged("failed", compared()), pasts=Pasts((Past(TEST, METRIC, "cpu", several),)))
    assert list(found) == ["What did not simply pass", "What was accepted of it"]
    assert [row[2:] for row in found["What was accepted of it"].rows] == [
        ["not committed", "not yet", "3 MB"],
        ["2026-01-02 in 0123456789ab", "more layers", "2 MB"],
        ["by 2026-01-02 in 0123456789ab", "the first", "1 MB"],
    ]


def test_of_many_values_the_last_are_named_and_the_others_counted() -> None:
    several = tuple(accepted(value) for value in range(module.VALUES + 3))
    found = tables(judged("failed", compared()), pasts=Pasts((Past(TEST, METRIC, "cpu", several),)))
    rows = found["What was accepted of it"].rows
    assert [row[4] for row in rows] == ["7 MB", "6 MB", "5 MB", "4 MB", "3 MB"]
    assert [row[3] for row in rows[-2:]] == ["the first", "the first (and 3 before it)"]


def test_what_passed_is_a_table_that_is_folded() -> None:
    passed = judged("passed", compared(verdict="passed", now="1 MB", limit="+1 %"))
    found = tables(passed, pasts=Pasts((Past(TEST, METRIC, "cpu", (accepted(1),)),)))
    (table,) = found.values()
    assert (table.caption, table.folded) == ("What passed", True)
    assert list(table.rows[0]) == [TEST, METRIC, "2026-01-02 in 0123456789ab", "all 1, 1 accepted", "1 MB", "+1 %"]


def test_a_metric_without_a_past_has_none() -> None:
    found = tables(judged("failed", compared("loss", "new")), judged("passed", compared(verdict="passed")))
    assert list(found) == ["What did not simply pass", "What passed"]
    assert found["What passed"].rows[0][2] == found["What passed"].rows[0][3] == "-"


def test_a_table_with_too_many_rows_says_so() -> None:
    found = tables(judged("failed", *[compared()] * 301))
    assert list(found) == ["What did not simply pass (300 of 301)"]
    assert len(found["What did not simply pass (300 of 301)"].rows) == 300


def test_the_picture_is_of_the_sessions_or_else_of_what_was_accepted_and_is_seen() -> None:
    now = Comparison(METRIC, "failed", value=4e6, unit="bytes")
    past = Past(TEST, METRIC, "cpu", (accepted(1e6), accepted(2e6)))
    assert so_far(now, past) == "▁▃█ 1 MB to 4 MB, 2 accepted"
    assert so_far(now, Past(TEST, METRIC, "cpu", past.accepted, (3e6, 1e6))) == "█▁ 1 MB to 3 MB, 2 sessions"
    assert so_far(now, Past(TEST, METRIC, "cpu", (), (3e6, 3e6))) == "all 3 MB, 2 sessions"
    assert so_far(now, Past(TEST, METRIC, "cpu", (), (3e6,))) == "-"


def test_what_is_no_number_has_no_picture() -> None:
    names = Accepted("16 parameters", None, "the first", "0123456789ab", "2026-01-02")
    assert so_far(Comparison("names", "failed"), Past(TEST, "names", "cpu", (names,))) == "-"


def test_what_could_not_be_looked_at_is_told() -> None:
    blocks = list(baselines([judged("passed")], Pasts((), ("history 's3://x' cannot be read",))))
    told = "Not looked back at: history 's3://x' cannot be read"
    assert Lines([told], tone="warning") in blocks


def test_without_baselines_there_is_no_part_on_them() -> None:
    assert list(baselines([], Pasts())) == []
