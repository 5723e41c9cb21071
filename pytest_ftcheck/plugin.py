"""The hooks. Imported by every pytest session, so only the standard library and pytest may be imported here.

PYTEST_DONT_REWRITE: nothing is asserted here, and rewriting takes time at every start.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

from .controller import Controller
from .fixtures import (
    _ft_evidence,
    ft_baseline,
    ft_benchmark,
    ft_check,
    ft_compare,
    ft_device,
    ft_full,
    ft_lora,
    ft_observe,
    ft_pair,
    ft_predict,
    ft_recipe,
    ft_run,
)
from .options import Settings, add_options, settings
from .session import SESSION, Session

if TYPE_CHECKING:
    from .collection import Collection

GPU = (
    'gpu(memory="20GB", count=1): needs a GPU (ftcheck); skipped where there is none, '
    "run on the CPU with --ftcheck-device=cpu"
)

# Of pytest-benchmark: where it saves or compares, our measurements join it.
BENCHMARK_OPTIONS = ("benchmark_save", "benchmark_autosave", "benchmark_json", "benchmark_compare")

__all__ = [
    "_ft_evidence",
    "ft_baseline",
    "ft_benchmark",
    "ft_check",
    "ft_compare",
    "ft_device",
    "ft_full",
    "ft_lora",
    "ft_observe",
    "ft_pair",
    "ft_predict",
    "ft_recipe",
    "ft_run",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_addoption"""
    add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """With --ftcheck-list-checks, print the catalogue and end; with --ftcheck-cache-info and -clear, what is kept."""
    chosen = settings(config)
    if chosen.cache_info or chosen.cache_clear:
        return _look_after_cache(chosen)
    if not chosen.list_checks:
        return None
    from .report.catalogue import listing

    _refuse_unknown_checks(chosen)
    print("\n".join(listing(chosen.checks)))
    return 0


def _look_after_cache(chosen: Settings) -> int:
    from .report.cache import cleared, information
    from .store import local_folder

    folder = local_folder(chosen.cache_dir)
    if folder is None:
        flag = "--ftcheck-cache-info" if chosen.cache_info else "--ftcheck-cache-clear"
        raise pytest.UsageError(
            f"{flag} with --ftcheck-cache-dir={chosen.cache_dir}; allowed: a folder of this machine"
        )
    print("\n".join(information(folder, chosen.cache_size) if chosen.cache_info else cleared(folder)))
    return 0


def pytest_configure(config: pytest.Config) -> None:
    """Read the options, so that a bad value ends the session before anything is collected."""
    config.addinivalue_line("markers", GPU)
    chosen = settings(config)
    _refuse_accepting(config, chosen)
    _refuse_unknown_checks(chosen)
    _refuse_cache(chosen)
    config.stash[SESSION] = Session(chosen, config.rootpath)
    if chosen.executor != "local":
        from .executor.joining import join

        join(config, config.stash[SESSION])
    if chosen.audit or chosen.sabotage or chosen.against:
        _collect_for_audit(config, chosen)
    if not hasattr(config, "workerinput"):
        _keep_history(config, chosen)
        config.pluginmanager.register(Controller(config), "ftcheck-controller")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let go of models and of the processes that were started."""
    session = config.stash.get(SESSION, None)
    if session is not None:
        session.close()


def _keep_history(config: pytest.Config, chosen: Settings) -> None:
    """Refuse a history that cannot be opened; join pytest-benchmark where it saves or compares."""
    if chosen.history:
        from .errors import HistoryError
        from .history.place import Place

        try:
            Place(chosen.history)
        except HistoryError as error:
            raise pytest.UsageError(f"--ftcheck-history: {error}") from None
    if any(config.getoption(name, None) for name in BENCHMARK_OPTIONS):
        from .history.benchmark_session import Joining

        config.pluginmanager.register(Joining(config, chosen.device), "ftcheck-benchmark")


def _refuse_accepting(config: pytest.Config, chosen: Settings) -> None:
    """End the session where nothing may be accepted in it; workers were started by one that may."""
    if not chosen.accepting or hasattr(config, "workerinput"):
        return
    from .acceptance import refusal

    why = refusal(chosen, config.rootpath)
    if why:
        raise pytest.UsageError(why)


def _refuse_cache(chosen: Settings) -> None:
    """End the session where runs are to be kept at a URL that cannot be opened."""
    if ":" in (chosen.cache_dir or ""):
        from .errors import CacheError
        from .store import open_store

        try:
            open_store(chosen.cache_dir)
        except CacheError as error:
            raise pytest.UsageError(f"--ftcheck-cache-dir: {error}") from None


def _refuse_unknown_checks(chosen: Settings) -> None:
    if not (chosen.checks or chosen.expected_failures):
        return
    from .errors import RecipeError
    from .parametrize import planned_checks

    try:
        planned_checks(select=chosen.checks)
    except RecipeError as error:
        raise pytest.UsageError(f"--ftcheck-checks: {error}") from None
    try:
        planned_checks(expected_failures=chosen.expected_failures)
    except RecipeError as error:
        raise pytest.UsageError(f"--ftcheck-expected-failures: {error}") from None


def _collect_for_audit(config: pytest.Config, chosen: Settings) -> None:
    from .audit import CHECKS, STACK, check_items, stack_items
    from .collection import Collection, Distribution

    if chosen.sabotage:
        from .sabotage import SABOTAGE, sabotage_items

        collection = Collection(SABOTAGE, sabotage_items, alone=True)
    elif chosen.against:
        collection = _collect_against(config, chosen.against)
    elif chosen.audit == "stack":
        collection = Collection(STACK, stack_items, of_recipe=False)
    else:
        collection = Collection(CHECKS, check_items)
    config.pluginmanager.register(collection, "ftcheck-collection")
    config.pluginmanager.register(Distribution(), "ftcheck-distribution")


def _collect_against(config: pytest.Config, ref: str) -> Collection:
    from .audit import AGAINST
    from .collection import Collection
    from .comparison.against import against_items
    from .comparison.checkout import commit_of, toplevel
    from .errors import ComparisonError

    try:
        commit_of(ref, toplevel(config.invocation_params.dir))
    except ComparisonError as error:
        raise pytest.UsageError(str(error)) from None
    return Collection(AGAINST, against_items, own=True)


@pytest.hookimpl(tryfirst=True)  # before pytest looks at -k
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse markers with arguments that they do not take; leave out checks that the options do not choose."""
    for item in items:
        marker = item.get_closest_marker("gpu")
        if marker is not None:
            from .markers import gpu_need

            gpu_need(item, marker)
    if any("ft_check" in getattr(item, "fixturenames", ()) for item in items):
        from .parametrize import deselect

        deselect(config, items, config.stash[SESSION].settings)


@pytest.hookimpl(tryfirst=True)  # before pytest looks at the skip markers
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked ``gpu`` where there is none, or fail it where one was promised."""
    marker = item.get_closest_marker("gpu")
    if marker is not None:
        from .markers import gpu_need, refuse_without_gpu

        session = item.config.stash[SESSION]
        refuse_without_gpu(item, gpu_need(item, marker), session.settings, session.elsewhere)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let the report carry what was made for it, as JSON: it is what reaches the controller from a worker."""
    report = yield
    fixtures = getattr(item, "fixturenames", ())
    if "ft_baseline" in fixtures:
        from .gating import conclude

        conclude(item, report)
    made = item.config.stash[SESSION].take_fresh()
    for kind, records in made.items():
        setattr(report, f"ftcheck_{kind}", records)
    if made.keys() & {"verdicts", "trials", "comparisons"} or "ft_check" in fixtures:
        from .outcome import annotate

        annotate(item, report, made)
    return report


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Count apart what is neither passed nor failed."""
    status = getattr(report, "ftcheck_status", None)
    return tuple(status) if status else None


def pytest_assertrepr_compare(config: pytest.Config, op: str, left: object, right: object) -> list[str] | None:
    """Explain a comparison with one of our numbers."""
    if not any(type(value).__module__.startswith("pytest_ftcheck.") for value in (left, right)):
        return None
    from .report.assertion import explain

    return explain(op, left, right)
