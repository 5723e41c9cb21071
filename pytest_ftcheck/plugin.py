"""The hooks. Imported by every pytest session, so only the standard library and pytest may be imported here.

PYTEST_DONT_REWRITE: nothing is asserted here, and rewriting takes time at every start.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .controller import BOARD, TESTS, Controller
from .crashes import Crashes, guard, on_next_test
from .fixtures import (
    _ft_evidence,
    ft_baseline,
    ft_benchmark,
    ft_check,
    ft_compare,
    ft_device,
    ft_distributed,
    ft_full,
    ft_lora,
    ft_observe,
    ft_pair,
    ft_predict,
    ft_recipe,
    ft_run,
    ft_sweep,
)
from .options import Settings, add_options, settings
from .refusals import refuse, refuse_unknown_checks
from .session import SESSION, Session
from .tally import ours, use_of

if TYPE_CHECKING:
    from .progress.audience import Audience

GPU = (
    'gpu(memory="20GB", count=1, exclusive=False): needs a GPU (ftcheck); skipped where there is none, '
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
    "ft_distributed",
    "ft_full",
    "ft_lora",
    "ft_observe",
    "ft_pair",
    "ft_predict",
    "ft_recipe",
    "ft_run",
    "ft_sweep",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """https://docs.pytest.org/en/stable/reference/reference.html#pytest.hookspec.pytest_addoption"""
    add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """With --ftcheck-list-checks, print the catalogue and end; with --ftcheck-cache-info and -clear, what is kept."""
    chosen = settings(config)
    if chosen.cache_info or chosen.cache_clear:
        from .report.cache import look_after

        print("\n".join(look_after(chosen)))
        return 0
    if not chosen.list_checks:
        return None
    from .report.catalogue import listing

    refuse_unknown_checks(chosen)
    print("\n".join(listing(chosen.checks)))
    return 0


def pytest_configure(config: pytest.Config) -> None:
    """Read the options, so that a bad value ends the session before anything is collected."""
    config.addinivalue_line("markers", GPU)
    chosen = settings(config)
    refuse(config, chosen)
    config.stash[SESSION] = session = Session(chosen, config.rootpath, guard(config))
    session.make_audience = lambda: _audience(config)
    if chosen.executor != "local":
        from .executor.joining import join

        join(config, session)
    if chosen.audit or chosen.sabotage or chosen.against:
        from .collection import chosen_collection

        config.pluginmanager.register(chosen_collection(config, chosen), "ftcheck-collection")
    if not hasattr(config, "workerinput"):
        _join_benchmarks(config, chosen)
        controller = Controller(config)
        config.pluginmanager.register(controller, "ftcheck-controller")
        config.pluginmanager.register(Crashes(), "ftcheck-crashes")
        if config.getoption("tx", None):
            _share_the_work(config, chosen, controller)


@pytest.hookimpl(tryfirst=True, optionalhook=True)  # before pytest-xdist's own answer
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """What ``-n auto`` means where GPUs are asked for: a worker for each that is free."""
    from .leasing.workers import worker_count

    return worker_count(config, settings(config))


def _share_the_work(config: pytest.Config, chosen: Settings, controller: Controller) -> None:
    """Divide GPUs and tests among the workers of pytest-xdist."""
    from .leasing.workers import Leasing, wants_gpus
    from .scheduling.hooks import Distribution

    leasing = Leasing(config) if wants_gpus(config, chosen) else None
    if leasing is not None:
        config.pluginmanager.register(leasing, "ftcheck-leasing")
    config.pluginmanager.register(Distribution(controller, leasing), "ftcheck-distribution")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let go of models and of the processes that were started."""
    session = config.stash.get(SESSION, None)
    if session is not None:
        session.close()


def _audience(config: pytest.Config) -> Audience | None:
    """Who is told how trainings in this process go on: its terminal or, on a worker, the controller."""
    if hasattr(config, "workerinput"):
        from .board import Board
        from .progress.panel import Poster

        folder = config.workerinput.get(BOARD)
        return Poster(Board(Path(folder)), config.workerinput["workerid"]) if folder else None
    from .progress.terminal import Screen, display_of

    display = display_of(config)
    return None if display is None else Screen(config, display)


def _join_benchmarks(config: pytest.Config, chosen: Settings) -> None:
    """What is measured joins pytest-benchmark where it saves or compares."""
    if any(config.getoption(name, None) for name in BENCHMARK_OPTIONS):
        from .history.benchmark_session import Joining

        config.pluginmanager.register(Joining(config, chosen.device), "ftcheck-benchmark")


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


@pytest.hookimpl(tryfirst=True)  # before xdist tells the controller that it has collected
def pytest_collection_finish(session: pytest.Session) -> None:
    """On a worker, say which tests are ours (when it dies there is no report that could), and what they need."""
    folder: str | None = getattr(session.config, "workerinput", {}).get(BOARD)
    tests = ours(session.items) if folder else []
    if folder and tests:
        from .board import Board
        from .scheduling.plan import post_plan

        board = Board(Path(folder))
        board.open()
        board.post(TESTS, tests)
        post_plan(board, session.items)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """No test is run where an earlier one has left a dead CUDA context behind, nor twice where it hung."""
    return on_next_test(item)


def pytest_enter_pdb(config: pytest.Config) -> None:
    """Nobody hurries a person who is debugging."""
    config.stash[SESSION].rest()


@pytest.hookimpl(tryfirst=True)  # before pytest looks at the skip markers
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked ``gpu`` where there is none, or fail it where one was promised."""
    marker = item.get_closest_marker("gpu")
    session = item.config.stash[SESSION]
    session.gpus = 1
    if marker is not None:
        from .markers import gpu_need, refuse_without_gpu, trains_elsewhere

        need, chosen = gpu_need(item, marker), session.settings
        session.gpus = need.count
        remote = session.remote if trains_elsewhere(item) else None
        refuse_without_gpu(item, need, chosen, remote)
        limited = need.memory_bytes and chosen.device != "cpu" and remote is None
        if limited and item.get_closest_marker("skip") is None:
            from .budget import impose

            impose(item, need, chosen)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # when all fixtures have been torn down
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Lift the limit on what a test marked ``gpu(memory=...)`` may allocate."""
    try:
        yield
    finally:
        if item.get_closest_marker("gpu") is not None:
            from .budget import lift

            lift(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let the report carry what was made for it, as JSON: it is what reaches the controller from a worker."""
    report = yield
    report.ftcheck_use = use_of(item)  # type: ignore[attr-defined]
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
    if call.excinfo is not None and "torch" in sys.modules:
        from .aftermath import settle

        settle(item, call.excinfo.value, report)
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
