from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_ftcheck.scheduling.plan import Planned, planned, read_plan, write_plan
from pytest_ftcheck.scheduling.unit import Unit, units_of

FILE = """
    import pytest

    def test_plain(): pass
    def test_full(ft_full): pass
    def test_full_too(ft_full): pass
    def test_lora(ft_lora): pass
    def test_pair(ft_pair): pass
    @pytest.mark.parametrize("method", ["full", "lora"])
    def test_run(ft_run, method): pass
    @pytest.mark.parametrize("method", ["full", "lora"])
    def test_run_too(ft_run, method): pass
    @pytest.mark.gpu(memory="20GB", count=2)
    def test_gpu(): pass
    @pytest.mark.gpu(exclusive=True)
    def test_exclusive(): pass
    def test_timed(ft_compare): pass
"""


def plans(pytester: pytest.Pytester) -> dict[str, Planned]:
    items, _ = pytester.inline_genitems(pytester.makepyfile(test_it=FILE))
    return {item.name: planned(item) for item in items}


def test_tests_that_need_the_same_runs_are_one_unit(pytester: pytest.Pytester) -> None:
    found = plans(pytester)
    assert found["test_full"].unit == found["test_full_too"].unit
    assert found["test_run[full]"].unit == found["test_run_too[full]"].unit
    names = ("test_full", "test_lora", "test_pair", "test_run[full]", "test_run[lora]", "test_timed")
    assert len({found[name].unit for name in names}) == len(names)
    assert found["test_pair"].trainings > found["test_full"].trainings > found["test_plain"].trainings == 0


def test_a_marker_says_which_gpus_and_what_is_timed_is_alone(pytester: pytest.Pytester) -> None:
    found = plans(pytester)
    assert found["test_plain"] == Planned()
    assert found["test_gpu"] == Planned("", 0, 2, 20 * 10**9, False)
    assert found["test_exclusive"] == Planned("", 0, 1, 0, True)
    assert found["test_timed"].alone


AUDITED = """
    import pytest
    from pytest_ftcheck import Recipe

    @pytest.fixture(scope="session")
    def ft_recipe():
        return Recipe(model=print, train_data=[1])
"""
PARAMETRIZED = """
    from pytest_ftcheck import parametrize_with_checks

    @parametrize_with_checks(methods=["full", "lora"])
    def test_it(ft_check): pass
"""


def audited(pytester: pytest.Pytester, *arguments: str) -> dict[str, Planned]:
    pytester.makeconftest(AUDITED)
    items, _ = pytester.inline_genitems(*arguments, "--ftcheck-device=cpu")
    return {item.name: planned(item) for item in items}


@pytest.mark.parametrize("arguments", [("--ftcheck-audit",), ()])
def test_checks_of_one_method_stay_on_one_worker(pytester: pytest.Pytester, arguments: tuple[str, ...]) -> None:
    if not arguments:
        pytester.makepyfile(PARAMETRIZED)
    found = audited(pytester, *arguments)
    assert len(found) > 100
    assert len({plan.unit for plan in found.values()}) == 2
    assert not any(plan.alone for plan in found.values())


@pytest.mark.parametrize("option", ["--ftcheck-audit=stack", "--ftcheck-sabotage"])
def test_other_items_of_an_audit_are_free(pytester: pytest.Pytester, option: str) -> None:
    found = audited(pytester, option)
    assert len(found) > 20
    assert len({plan.unit for plan in found.values()}) == len(found)
    assert all(plan.trainings for plan in found.values())


def test_all_that_is_compared_with_a_commit_stays_on_one_worker_and_is_alone(pytester: pytest.Pytester) -> None:
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"]):
        pytester.makeconftest(AUDITED)
        subprocess.run(["git", *command], cwd=pytester.path, check=True)
    found = audited(pytester, "--ftcheck-against=HEAD")
    assert sorted(found) == ["full", "lora"]
    assert len({plan.unit for plan in found.values()}) == 1
    assert all(plan.alone for plan in found.values())


def test_a_plan_is_read_as_it_was_written_and_only_where_it_fits(pytester: pytest.Pytester, tmp_path: Path) -> None:
    items, _ = pytester.inline_genitems(pytester.makepyfile(test_it=FILE))
    assert read_plan(tmp_path, len(items)) is None
    write_plan(tmp_path, items)
    assert read_plan(tmp_path, len(items)) == [planned(item) for item in items]
    assert read_plan(tmp_path, len(items) + 1) is None
    (tmp_path / "plan.json").write_text("[[")
    assert read_plan(tmp_path, len(items)) is None


def test_where_no_test_is_a_matter_of_ours_nothing_is_planned(pytester: pytest.Pytester, tmp_path: Path) -> None:
    items, _ = pytester.inline_genitems(pytester.makepyfile("def test_plain(): pass"))
    write_plan(tmp_path, items)
    assert list(tmp_path.iterdir()) == []


def test_the_longest_unit_comes_first_by_what_it_took_or_else_by_its_trainings() -> None:
    ids = ["pair", "short", "long", "plain"]
    plan = [Planned("pair", 6), Planned("short", 1), Planned("long", 1), Planned()]
    assert [unit.tests for unit in units_of(ids, plan, {}, 2)] == [[0], [1], [2], [3]]
    took = {"pair": 3.0, "short": 1.0, "long": 99.0}
    assert [unit.tests for unit in units_of(ids, plan, took, 2)] == [[2], [0], [1], [3]]


def test_tests_that_need_no_training_travel_in_parcels() -> None:
    found = units_of([str(number) for number in range(161)], [Planned("a", 1)] + [Planned()] * 160, {}, 2)
    assert found[0].tests == [0]
    assert [len(unit.tests) for unit in found[1:]] == [10] * 16
    assert [unit.tests[0] for unit in found[1:]] == list(range(1, 161, 10))


def test_a_unit_needs_what_its_most_demanding_test_needs() -> None:
    plan = [Planned("a", 1, 1, 10), Planned("a", 1, 2, 5)]
    assert units_of(["x", "y"], plan, {}, 2) == [Unit([0, 1], 20.0, 2, 10)]
