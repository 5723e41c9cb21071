"""The ``ft_*`` fixtures. Everything heavy is imported in their bodies, so that a session without them pays nothing.

All but ``ft_recipe`` and ``ft_device`` last for a module: pytest would go on using a session's fixture after a folder
further down has overridden ``ft_recipe``. What was trained lasts for the session all the same, in the runner.

PYTEST_DONT_REWRITE: nothing is asserted here, and rewriting takes time at every start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from .session import SESSION

if TYPE_CHECKING:
    from .comparison.step_time import StepTime
    from .distributed.run import DistributedRun
    from .evidence.evidence import Evidence
    from .factory import RunFactory
    from .gating import Baseline
    from .observers import Observation
    from .pair import Pair
    from .predict import Gpu, Prediction
    from .recipe import Recipe
    from .run import Run
    from .sweeping.sweep import Sweep


@contextmanager
def _told_in_one_piece() -> Iterator[None]:
    """Report an error of ours by its text, which says what to do, without the frames of this package."""
    from .errors import FtcheckError

    try:
        yield
    except FtcheckError as error:
        # "from None": pytest would print the text of a chained error once more.
        raise pytest.fail.Exception(f"ftcheck: {error}", pytrace=False) from None


def _refuse_other_than_recipe(value: object) -> None:
    from .recipe import Recipe

    if not isinstance(value, Recipe):
        pytest.fail(f"ftcheck: ft_recipe returned {type(value).__name__}; allowed: a Recipe", pytrace=False)


@pytest.fixture(scope="session")
def ft_recipe() -> Recipe:
    """How the repository under guard fine-tunes: override it. Default: the embedded planted-rank task ("narrow")."""
    from .tasks import NARROW, planted_recipe

    return planted_recipe(NARROW, "narrow")


@pytest.fixture(scope="session")
def ft_device(pytestconfig: pytest.Config) -> str:
    """The torch device that trainings run on: ``"cpu"`` or ``"cuda:N"``."""
    from .devices import resolve_device, usable_gpus

    settings = pytestconfig.stash[SESSION].settings
    with _told_in_one_piece():
        device = resolve_device(settings.device)
    if settings.require_gpu and device == "cpu":
        pytest.fail(f"ftcheck: --ftcheck-require-gpu, but {usable_gpus().why_none}", pytrace=False)
    return device


@pytest.fixture(scope="module")
def ft_run(
    request: pytest.FixtureRequest,
    ft_recipe: Any,
    pytestconfig: pytest.Config,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunFactory]:
    """Factory: ``ft_run("full" | "lora" | name, seed=0, steps=None)`` trains, once, and returns the ``Run``."""
    from .factory import RunFactory

    _refuse_other_than_recipe(ft_recipe)
    session = pytestconfig.stash[SESSION]
    on_worker = hasattr(pytestconfig, "workerinput")

    def shared_folder() -> Any:
        base = tmp_path_factory.getbasetemp()
        return (base.parent if on_worker else base) / "ftcheck-runs"

    # That of another machine says nothing about the device of this one, which may be missing.
    device = session.remote.device() if session.remote else request.getfixturevalue("ft_device")
    factory = RunFactory(ft_recipe, device, session.runner(shared_folder), session.settings, lambda: session.gpus)
    yield factory
    # When the tests have what they asked for.
    session.forecast(ft_recipe, factory.given)


@pytest.fixture(scope="module")
def ft_full(ft_run: RunFactory) -> Run:
    """The recipe trained in full, from seed 0."""
    with _told_in_one_piece():
        return ft_run("full")


@pytest.fixture(scope="module")
def ft_lora(ft_run: RunFactory) -> Run:
    """The recipe trained with its LoRA (or other adapter), from seed 0."""
    with _told_in_one_piece():
        return ft_run("lora")


@pytest.fixture(scope="module")
def ft_pair(ft_run: RunFactory) -> Pair:
    """Both arms, from the same seeds on the same batches."""
    with _told_in_one_piece():
        return ft_run.pair()


@pytest.fixture(scope="module")
def ft_sweep(ft_run: RunFactory, pytestconfig: pytest.Config) -> Callable[..., Sweep]:
    """Factory: ``ft_sweep()`` tries other learning rates, ranks, targets and variants of the recipe's LoRA, and says
    how much of the gap to full the best of them closes. Its arguments are those of ``sweeping.search.Search``.
    """
    session = pytestconfig.stash[SESSION]

    def try_settings(**choices: Any) -> Sweep:
        from .errors import FtcheckError
        from .sweeping.search import Search

        __tracebackhide__ = True
        try:
            found = ft_run.sweep(Search(**choices))
        except FtcheckError as error:
            # Without the frames of this package.
            raise error.with_traceback(None) from None
        session.fresh["sweeps"].append(found.to_json())
        return found

    return try_settings


@pytest.fixture(scope="module")
def ft_predict(ft_recipe: Any, pytestconfig: pytest.Config) -> Callable[..., Prediction]:
    """Factory: ``ft_predict("full" | "lora" | name, gpu="h100")`` predicts memory and FLOPs, once, without a GPU."""
    _refuse_other_than_recipe(ft_recipe)
    session = pytestconfig.stash[SESSION]

    def predict(method: str, gpu: str | Gpu = "h100") -> Prediction:
        from .errors import FtcheckError

        __tracebackhide__ = True
        try:
            return session.prediction(ft_recipe, method, gpu)
        except FtcheckError as error:
            # Without the frames of this package.
            raise error.with_traceback(None) from None

    return predict


@pytest.fixture(scope="module")
def ft_distributed(ft_recipe: Any, ft_device: str, pytestconfig: pytest.Config) -> Callable[..., DistributedRun]:
    """Factory: ``ft_distributed("lora", processes=2, strategy="ddp")`` trains under torch elastic, once: a ``Run`` of
    each rank.
    """
    _refuse_other_than_recipe(ft_recipe)
    session, made = pytestconfig.stash[SESSION], {}

    def train(
        method: str, processes: int | None = None, strategy: Any = None, seed: int = 0, steps: int | None = None
    ) -> DistributedRun:
        from .distributed.run import TIME_LIMIT_S, train_distributed
        from .errors import FtcheckError

        __tracebackhide__ = True
        settings, key = session.settings, (method, processes, strategy, seed, steps)
        limit_s = settings.time_limit or TIME_LIMIT_S
        try:
            if key not in made:
                horizon = steps or settings.steps
                made[key] = train_distributed(ft_recipe, method, seed, horizon, ft_device, processes, strategy, limit_s)
        except FtcheckError as error:
            # Without the frames of this package.
            raise error.with_traceback(None) from None
        return made[key]

    return train


@pytest.fixture
def ft_compare(ft_device: str, pytestconfig: pytest.Config) -> Callable[..., StepTime]:
    """Factory: ``ft_compare(reference, candidate, method="lora")`` measures the step time of two recipes, in turns."""
    session = pytestconfig.stash[SESSION]

    def compare(reference: Recipe, candidate: Recipe, method: str = "lora", seed: int = 0) -> StepTime:
        from .comparison.comparison import Comparison
        from .comparison.contestant import LIMIT_S
        from .comparison.recipes import compare_recipes
        from .devices import refuse_company
        from .errors import FtcheckError

        __tracebackhide__ = True
        limit_s = session.settings.time_limit or LIMIT_S
        try:
            refuse_company(ft_device)
            found = compare_recipes(reference, candidate, method, ft_device, seed, limit_s)
        except FtcheckError as error:
            # Without the frames of this package.
            raise error.with_traceback(None) from None
        session.fresh["comparisons"].append(Comparison(candidate.name, (), found).to_json())
        return found

    return compare


@pytest.fixture
def ft_benchmark(request: pytest.FixtureRequest, ft_recipe: Any, ft_device: str) -> Callable[..., float]:
    """``ft_benchmark("full" | "lora" | name, rounds=20)``: pytest-benchmark times updates. Returns their median (s)."""
    if not request.config.pluginmanager.hasplugin("pytest-benchmark"):
        pytest.skip(
            "ft_benchmark needs pytest-benchmark (pip install 'pytest-ftcheck[benchmark]'), which is not active"
        )
    benchmark = request.getfixturevalue("benchmark")
    # It looks here for what its options (--benchmark-only, --benchmark-skip) are about.
    request.node.funcargs["benchmark"] = benchmark

    def time(method: str = "lora", *, recipe: Any = None, **options: Any) -> float:
        from .comparison.contestant import LIMIT_S
        from .comparison.stepping import time_steps
        from .devices import refuse_company
        from .errors import FtcheckError

        __tracebackhide__ = True
        limit_s = request.config.stash[SESSION].settings.time_limit or LIMIT_S
        chosen = ft_recipe if recipe is None else recipe
        try:
            refuse_company(ft_device)
            return time_steps(benchmark, chosen, method, ft_device, limit_s=limit_s, **options)
        except FtcheckError as error:
            # Without the frames of this package.
            raise error.with_traceback(None) from None

    return time


@pytest.fixture
def ft_baseline(request: pytest.FixtureRequest) -> Baseline:
    """``ft_baseline.check(run_or_pair)`` and ``.record(name, value, ...)`` hold what is seen to what is recorded."""
    from .gating import CASE, Baseline

    baseline = Baseline(request)
    request.node.stash[CASE] = baseline.case
    return baseline


@pytest.fixture(scope="session")
def ft_observe() -> Callable[..., AbstractContextManager[Observation]]:
    """``with ft_observe(model) as seen: train(model)``: watches a training that the test itself runs."""
    from .observers import observe

    return observe


@pytest.fixture(scope="module")
def _ft_evidence(ft_recipe: Any, ft_device: str, pytestconfig: pytest.Config) -> Callable[[str], Evidence]:
    """What checks look at, by method. Of a module, so that a recipe that is made anew for each test is refused."""
    _refuse_other_than_recipe(ft_recipe)
    session = pytestconfig.stash[SESSION]
    return lambda method: session.evidence(ft_recipe, method, ft_device)


@pytest.fixture
def ft_check(
    request: pytest.FixtureRequest, _ft_evidence: Callable[[str], Evidence], pytestconfig: pytest.Config
) -> Callable[[], None]:
    """``ft_check()`` runs the one check of the catalogue that ``@parametrize_with_checks()`` chose for this item."""
    from .checks.examination import examine
    from .outcome import conclude
    from .parametrize import plan_of

    plan = plan_of(request.node)
    if plan is None:
        pytest.fail("ftcheck: ft_check is for tests with @parametrize_with_checks()", pytrace=False)

    def check() -> None:
        __tracebackhide__ = True
        verdict = examine(plan.check, _ft_evidence(plan.method), plan.expected)
        conclude(pytestconfig.stash[SESSION], verdict)

    return check
