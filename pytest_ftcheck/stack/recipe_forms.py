"""The forms that the audit's recipes have: a plain loop, a Trainer, one of TRL's trainers, on any architecture."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..methods import Full, Peft
from ..recipe import Recipe
from . import loops
from .data import ROWS, collate
from .models import ARCHITECTURES, build

if TYPE_CHECKING:
    from ..methods import Method


# What shows how an adapter is put on, moved, merged and stored; no further training is needed for most of it.
ADAPTER = ("conduct", "parameters", "mode", "adapter", "saving")


# The same for what the probes of single adapters see most of.
ADAPTER_IN_SHORT = ("conduct", "parameters", "adapter")


# What shows how a trainer counts, weighs and steps.
TRAINER = ("conduct", "optimizer", "schedule", "labels", "loss", "data", "mode", "equivalence")


@dataclass(frozen=True)
class StackRecipe:
    """A recipe of the audit. ``make`` builds it, or raises NotApplicable; ``themes`` (empty: all) are the checks that
    it is worth running, ``needs`` the releases that it takes, and ``links`` bugs that it has shown.
    """

    id: str
    claim: str
    make: Callable[[], Recipe]
    themes: tuple[str, ...] = ()
    needs: str = "transformers"
    links: tuple[str, ...] = ()


def recipe_on(id: str, architecture: str, changes: Mapping[str, Any], **parts: Any) -> Recipe:
    """A plain loop on ``architecture`` with rows of its task."""
    from ..tasks import loop

    rows = ROWS[ARCHITECTURES[architecture].task]
    settings: dict[str, Any] = dict(
        name=id,
        model=functools.partial(_built, architecture, tuple(sorted(changes.items()))),
        train=loop.train,
        train_data=functools.partial(rows, 48, 1),
        eval_data=functools.partial(rows, 12, 2),
        collate=collate,
        full=None,
        lora=None,
        batch_size=4,
        accumulation=2,
        steps=12,
        threads=1,
    )
    return Recipe(**{**settings, **parts})


def _built(architecture: str, changes: tuple[tuple[str, Any], ...]) -> Any:
    return build(architecture, **dict(changes))


def plain(
    id: str,
    architecture: str,
    method: Method | Callable[[], Method],
    claim: str,
    *,
    themes: Sequence[str] = ADAPTER,
    needs: str = "transformers,peft",
    links: Sequence[str] = (),
    changes: Mapping[str, Any] | None = None,
    **parts: Any,
) -> StackRecipe:
    """``architecture`` trained by ``method`` in a plain loop."""

    def make() -> Recipe:
        build(architecture, **(changes or {}))
        arm = method() if callable(method) else method
        named = {"full": arm} if isinstance(arm, Full) else {"lora": arm}
        return recipe_on(id, architecture, changes or {}, **named, **parts)

    return StackRecipe(id, claim, make, tuple(themes), needs, tuple(links))


def peft_method(name: str, lr: float = 1e-2, **settings: Any) -> Callable[[], Peft]:
    """A PEFT configuration by the name of its class; NotApplicable where the installed release has none."""

    def make() -> Peft:
        from .probe import from_peft

        return Peft(from_peft(name)(**settings), lr=lr)

    return make


def hf(
    id: str,
    architecture: str,
    methods: Mapping[str, Any],
    claim: str,
    *,
    themes: Sequence[str] = TRAINER,
    links: Sequence[str] = (),
    arguments: Mapping[str, Any] | None = None,
    **parts: Any,
) -> StackRecipe:
    """``architecture`` trained by ``transformers.Trainer``."""

    def make() -> Recipe:
        from ..trainer import TrainerLoop

        build(architecture)
        loop = TrainerLoop(functools.partial(loops.hf_trainer, **(arguments or {})))
        own = {"train": loop.train, "evaluate": loop.evaluate, "max_grad_norm": 1.0, "optimizer": "AdamW"}
        return recipe_on(id, architecture, {}, **{**own, **methods, **parts})

    return StackRecipe(id, claim, make, tuple(themes), "transformers,accelerate", tuple(links))


def trl(
    id: str,
    trainer: str,
    rows: Callable[[int], Any],
    claim: str,
    *,
    themes: Sequence[str],
    arguments: Mapping[str, Any] | None = None,
    links: Sequence[str] = (),
    parts: Callable[[], dict[str, Any]] = dict,
) -> StackRecipe:
    """A Llama trained by TRL's trainer called ``trainer`` on rows of text."""

    def make() -> Recipe:
        from ..trainer import TrainerLoop
        from .probe import from_trl

        from_trl(f"{trainer}Trainer")
        loop = TrainerLoop(lambda job: loops.trl_trainer(job, trainer, dict(arguments or {}), **parts()))
        return Recipe(
            name=id,
            model=functools.partial(build, "llama"),
            train=loop.train,
            evaluate=loop.evaluate,
            train_data=functools.partial(rows, 12),
            eval_data=None,
            full=Full(lr=1e-3),
            lora=None,
            steps=8,
            batch_size=2,
            accumulation=2,
            threads=1,
        )

    return StackRecipe(id, claim, make, tuple(themes), "transformers,accelerate,datasets,trl", tuple(links))
