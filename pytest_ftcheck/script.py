"""An unchanged training script as the training of a recipe: run in this process, under observation.

The script builds its own model, so what trains is found out: the first module that is called from outside of any other
module, while gradients are recorded, and that has something to train.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from .content import sources_digest
from .errors import RecipeError, TrainingError

if TYPE_CHECKING:
    from torch import nn

    from .recipe import Job

Arguments = Union[Sequence[str], Callable[["Job"], Sequence[str]]]
# What may stand in braces in an argument: parts of the job.
FIELDS = ("method", "steps", "seed", "lr", "batch_size", "accumulation", "device", "output_dir", "resume_from")


class HorizonReached(BaseException):
    """Ends a script that would train on; no ``except Exception`` of the script's own stops it."""


class SeenByTheScript:
    """Stands for data that the script reads by itself."""

    def __repr__(self) -> str:
        return "the script's own data"


def unbuilt_model() -> nn.Module:
    """Stands for the model until the script has built it."""
    from torch import nn

    class Unbuilt(nn.Module):
        """No parameters: what trains is not known yet."""

        built_by_training = True

    return Unbuilt()


def as_it_is(model: nn.Module, method: Any) -> nn.Module:
    """The script adapts its model itself."""
    return model


@dataclass(frozen=True)
class Script:
    """Trains a job by running the script at ``path`` as ``python path *arguments`` would, with its folder first on
    ``sys.path``, until ``job.steps`` updates have been made.
    """

    path: Path
    arguments: Arguments
    sources: str

    def train(self, job: Job) -> None:
        """Run the script once. Raises TrainingError where it exits with an error."""
        arguments = [str(self.path), *self._arguments(job)]
        with _as_main(self.path, arguments), _watched(job):
            try:
                runpy.run_path(str(self.path), run_name="__main__")
            except HorizonReached:
                pass
            except SystemExit as end:
                if end.code not in (None, 0):
                    told = f"{self.path.name} exited with {end.code!r}; its arguments were {arguments[1:]}"
                    raise TrainingError(told) from None

    def _arguments(self, job: Job) -> list[str]:
        if callable(self.arguments):
            return [str(argument) for argument in self.arguments(job)]
        values = {field: getattr(job, field) for field in FIELDS if field != "method"}
        values["method"] = next(name for name, one in job.recipe.declared_methods.items() if one is job.method)
        return [argument.format(**values) for argument in self.arguments]


def script(path: str | os.PathLike[str], arguments: Arguments) -> Script:
    """The script at ``path``. Raises RecipeError where there is none, or an argument has a field that no job has."""
    file = Path(path).resolve()
    if not file.is_file():
        raise RecipeError(f"Recipe.from_script: {str(path)!r} is not a file; allowed: a Python script")
    if isinstance(arguments, str):
        raise RecipeError(f"Recipe.from_script: arguments is {arguments!r}; allowed: a list of them")
    if not callable(arguments):
        arguments = tuple(arguments)
        for argument in arguments:
            _refuse_unknown_fields(argument)
    return Script(file, arguments, sources_digest(str(file)))


def _refuse_unknown_fields(argument: Any) -> None:
    try:
        str(argument).format(**dict.fromkeys(FIELDS, ""))
    except (KeyError, IndexError, ValueError):
        allowed = ", ".join(f"{{{field}}}" for field in FIELDS)
        raise RecipeError(f"Recipe.from_script: argument {argument!r}; allowed in braces: {allowed}") from None


@contextlib.contextmanager
def _as_main(path: Path, arguments: list[str]) -> Iterator[None]:
    """``sys.argv`` and ``sys.path`` as for a script that was started by itself."""
    argv, search = sys.argv, list(sys.path)
    sys.argv, sys.path[:] = arguments, [str(path.parent), *search]
    try:
        yield
    finally:
        sys.argv, sys.path[:] = argv, search


@contextlib.contextmanager
def _watched(job: Job) -> Iterator[None]:
    """Tell ``job`` of the model when it is first called for training, and end the training at the horizon."""
    import torch
    from torch import nn
    from torch.optim.optimizer import register_optimizer_step_post_hook

    called, updates = 0, 0
    found: list[nn.Module] = []
    original = nn.Module.__call__

    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        nonlocal called
        if called == 0 and not found and torch.is_grad_enabled() and _trains(module):
            found.append(module)
            job.replace_model(module)
        elif called == 0 and updates >= job.steps and torch.is_grad_enabled() and module is found[0]:
            raise HorizonReached
        called += 1
        try:
            return original(module, *args, **kwargs)
        finally:
            called -= 1

    def stepped(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        nonlocal updates
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        updates += bool(found) and any(id(p) in held for p in found[0].parameters())

    hook = register_optimizer_step_post_hook(stepped)
    nn.Module.__call__ = call  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.__call__ = original  # type: ignore[method-assign]
        hook.remove()


def _trains(module: nn.Module) -> bool:
    return any(p.requires_grad for p in module.parameters())
