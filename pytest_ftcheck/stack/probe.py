"""What a probe is: one thing that a release of a library must do, and how to see whether it does."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from ..checks.check import Finding, Theme
from ..checks.verdict import Verdict
from ..errors import NotApplicable
from .known import known_reason
from .releases import LIBRARIES, installed, require

Function = Callable[[str, int], Iterable[Finding]]
# What a library says when it refuses what it cannot do yet: an answer, and not a defect.
REFUSALS = (
    "not support", "unsupported", "not implemented", "only support", "not yet", "not possible", "not currently",
    "unexpected keyword argument", "not compatible", "must be one of", "unrecognized", "only possible",
    "cannot be merged", "no module named", "cannot set a prompt learning", "must be installed", "is not available",
    "cannot convert peft target", "is not a module subclass",
    "invalid packing strategy",
    "weights_only",
)  # fmt: skip


@dataclass(frozen=True)
class Control:
    """A way to break a library, as it has been broken before: ``breaks()`` lasts as long as its body. The probe must
    notice it on ``case``.
    """

    case: str
    breaks: Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Probe:
    """``function(case, seed)`` yields what is wrong, for each of ``cases()``: architectures, adapters, settings.

    ``needs`` are the releases that it takes ("peft>=0.9"), ``library`` is the one that it judges and ``cause`` what is
    to blame where it fails or raises.
    """

    id: str
    theme: Theme
    claim: str
    library: str
    cause: str
    function: Function
    cases: Callable[[], Sequence[str]]
    needs: str
    links: tuple[str, ...] = ()
    control: Control | None = None

    def examine(self, seed: int = 0) -> list[Verdict]:
        """One verdict for each case."""
        try:
            require(self.needs)
            cases = self.cases()
        except NotApplicable as answer:
            return [self._verdict("all", "not applicable", reason=str(answer))]
        return [self.examine_case(case, seed) for case in cases]

    def examine_case(self, case: str, seed: int = 0) -> Verdict:
        """The verdict on one case, whatever the library does."""
        start = time.perf_counter()
        status, reason = "passed", ""
        findings: tuple[Finding, ...] = ()
        try:
            require(self.needs)
            with _as_before():
                findings = tuple(self.function(case, seed))
            status = "failed" if findings else "passed"
        except NotApplicable as answer:
            status, reason = "not applicable", str(answer)
        except Exception as error:  # a library that raises is what an audit is for
            status, reason, findings = self._raised(error)
        known = known_reason(self.id, case) if status == "failed" else None
        if known is not None:
            status, reason = "expected failure", known
        return self._verdict(case, status, findings, reason, time.perf_counter() - start)

    def _raised(self, error: Exception) -> tuple[str, str, tuple[Finding, ...]]:
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if any(refusal in str(error).lower() for refusal in REFUSALS) or isinstance(error, NotImplementedError):
            return "not applicable", f"the installed release refuses: {text}", ()
        frames = traceback.extract_tb(error.__traceback__)
        if "pytest_ftcheck" in str(error):
            return "error", text, ()
        if "pytest_ftcheck" in frames[-1].filename and isinstance(error, (AttributeError, ImportError, TypeError)):
            return "not applicable", f"the installed release has another interface: {text}", ()
        last = frames[-1]
        evidence = (f"at {last.filename}:{last.lineno} in {last.name}",)
        return "failed", "", (self.finding(f"it raised {text}", evidence=evidence),)

    def finding(self, summary: str, cause: str = "", evidence: tuple[str, ...] = ()) -> Finding:
        return Finding(summary, cause or self.cause, _remedy(self.library), evidence)

    def _verdict(
        self, case: str, status: str, findings: tuple[Finding, ...] = (), reason: str = "", seconds: float = 0.0
    ) -> Verdict:
        return Verdict(self.id, self.theme, case, self.claim, status, findings, reason, self.links, seconds)


def _remedy(library: str) -> str:
    return f"hold {library} back ({library} {installed(library)} is installed), or do without what fails; see the links"


_REGISTERED: dict[str, Probe] = {}


def probe(
    id: str,
    theme: Theme,
    claim: str,
    *,
    library: str,
    cause: str,
    cases: Callable[[], Sequence[str]] = lambda: ("",),
    needs: str = "",
    links: Sequence[str] = (),
    control: Control | None = None,
) -> Callable[[Callable[[str, int], Iterator[str | tuple[str, ...]]]], Probe]:
    """Make a probe of the decorated function, which yields a line (or several, as a tuple) for each thing wrong."""

    def register(function: Callable[[str, int], Iterator[str | tuple[str, ...]]]) -> Probe:
        assert id not in _REGISTERED, f"two probes are called {id}"

        def findings(case: str, seed: int) -> Iterator[Finding]:
            for text in function(case, seed):
                lines = (text,) if isinstance(text, str) else text
                yield made.finding(f"{case}: {lines[0]}" if case else lines[0], evidence=tuple(lines[1:]))

        made = Probe(id, theme, claim, library, cause, findings, cases, needs or library, tuple(links), control)
        _REGISTERED[id] = made
        return made

    return register


def probes() -> tuple[Probe, ...]:
    """Every probe, in the same order in every process."""
    import importlib

    for name in MODULES:
        importlib.import_module(f"{__package__}.probes.{name}")
    return tuple(_REGISTERED.values())


MODULES = (
    *("models", "experts", "initial_values", "attention", "causality", "embeddings", "checkpoints", "goldens"),
    *("adapters", "adapter_formulas", "adapter_files", "several_adapters", "weighted_adapters", "adapter_settings"),
    *("trainer_gradients", "trainer_course", "trainer_checkpoints", "collators"),
    *("accelerate_updates", "accelerate_data", "accelerate_state"),
    *("trl_data", "trl_losses"),
)


def from_peft(name: str) -> Any:
    """What peft calls ``name``. NotApplicable where the installed release has none."""
    import peft

    if not hasattr(peft, name):
        raise NotApplicable(f"peft {peft.__version__} has no {name}")
    return getattr(peft, name)


def from_trl(name: str) -> Any:
    """What trl calls ``name``, also where it has moved it to its experimental part. NotApplicable where it has none."""
    import importlib

    for module in ("trl", "trl.trainer", "trl.models", *(f"trl.experimental.{part}" for part in _EXPERIMENTAL)):
        with contextlib.suppress(ImportError, AttributeError, RuntimeError):
            return getattr(importlib.import_module(module), name)
    raise NotApplicable(f"trl {installed('trl')} has no {name}")


_EXPERIMENTAL = ("orpo", "kto", "cpo", "bco")


def distance(one: Any, other: Any) -> float:
    """The largest difference of two tensors, in float32; NaN where there is one, infinite where shapes differ."""
    if one.shape != other.shape:
        return float("inf")
    return float((one.float() - other.float()).abs().max()) if one.numel() else 0.0


@contextlib.contextmanager
def _as_before() -> Iterator[None]:
    """Quietly, on one thread, and without a trace in the generators and torch's settings."""
    import warnings

    from ..isolation import preserved_settings, seed_everything

    with warnings.catch_warnings(), preserved_settings(1), quiet():
        warnings.simplefilter("ignore")
        seed_everything(0)
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing on standard output or in the libraries' logs."""
    import io
    import logging

    loggers = [logging.getLogger(name) for name in LIBRARIES]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
