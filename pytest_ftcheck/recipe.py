"""What a user tells the plugin: how their repository fine-tunes, at a size that CI can afford."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import RecipeError
from .methods import Full, LoRA, Method, Peft

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .distributed.strategy import Strategy
    from .trainer import TrainerRecord

DTYPES = ("float32", "bfloat16", "float16", "float64")


@dataclass
class Job:
    """One training to do: what ``train(job)`` receives.

    ``model`` is built, adapted to ``method`` and on ``device``; ``lr`` is the method's. A training that puts another
    model in place of it (a trainer that adapts by itself) says so by ``job.replace_model(model)``.

    ``save_steps``, ``eval_steps`` and ``resume_from`` are set by checks that ask for a checkpoint (in ``output_dir``)
    or an evaluation after every so many updates, or to go on from such a checkpoint. A loop that knows none of them
    leaves those checks not applicable. ``Recipe.save_steps`` sets the first and the last for runs.

    ``rank`` says which of ``processes`` this is, where several train together; ``batch_size`` is that of each.
    ``trainer`` is what a Hugging Face trainer that has trained says of itself, for checks.
    """

    model: nn.Module
    method: Method
    train_data: Any
    eval_data: Any
    steps: int
    seed: int
    batch_size: int
    accumulation: int
    lr: float
    device: str
    dtype: str
    output_dir: Path
    recipe: Recipe
    resume_from: Path | None = None
    save_steps: int | None = None
    eval_steps: int | None = None
    on_model: Callable[[nn.Module], None] | None = None
    # What a Hugging Face trainer said of itself, once it has trained.
    trainer: TrainerRecord | None = None
    # Of a training of several processes: which of them this is. ``batch_size`` is that of each.
    rank: int = 0
    processes: int = 1

    def replace_model(self, model: nn.Module) -> None:
        """Say that ``model`` is what trains, in place of the one that the job came with."""
        self.model = model
        if self.on_model is not None:
            self.on_model(model)

    def collate(self, rows: list[Any]) -> Any:
        """One batch on the job's device, by the recipe's ``collate``."""
        from .training import collate, to_device

        return to_device((self.recipe.collate or collate)(rows), self.device)

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The mean loss of a batch, a scalar tensor, by the recipe's ``loss``."""
        from .training import model_loss

        return (self.recipe.loss or model_loss)(model, batch)


@dataclass(frozen=True)
class Recipe:
    """How a repository fine-tunes.

    Required: ``model``, a function without arguments that returns the base model; and ``train_data``, rows (anything
    with a length and indices) or a function that returns them. Every other part has a working default, and each can be
    the user's own code, because that is where bugs live:

    ``train(job)``: the training loop. ``adapt(model, method) -> model``: turns the base model into what trains.
    ``loss(model, batch) -> scalar``: the mean loss of a batch. ``collate(rows) -> batch``. ``evaluate(job) -> float``:
    the loss on ``eval_data``. ``save(model, folder)`` and ``load(folder) -> model``.

    ``source_data``: rows of what the base model was good at before, evaluated as ``eval_data`` is, which show what is
    forgotten (``run.loss.forgetting``) and which arm to choose where generality counts.

    ``steps`` is the horizon in optimizer updates, each of ``accumulation`` micro-batches of ``batch_size`` rows;
    ``seeds`` is how many paired seeds a comparison takes. ``eval_steps`` are the updates after which the evaluation
    loss is taken (default: about a dozen, spread evenly in log(step), with 30 and the horizon among them).
    ``methods`` names further methods for ``ft_run``, and ``name`` tells recipes apart in reports. ``threads`` sets
    torch's CPU threads during a run. A repository that trains in one way only says ``full=None`` or ``lora=None``.

    ``merge(model) -> model`` is how a trained adapter is merged into the base for export (default: PEFT's
    ``merge_and_unload``). ``max_grad_norm``, ``optimizer`` (a class name: ``"AdamW"``) and ``weight_decay`` (of
    matrices; norms and biases then have none) are declarations that checks hold the training to; None declares nothing.
    ``processes``: ``ft_distributed`` and the checks of the theme "distributed" train with so many, started by torch
    elastic (``torchrun``); everything else trains in one. ``batch_size`` is that of each process, so that an update
    has ``batch_size * accumulation * processes`` rows. ``strategy`` says who distributes: "ddp", "fsdp2" or a function
    of the model, and ``job.model`` comes wrapped, in a process group, with ``job.rank`` and ``job.processes`` for a
    loop to divide its rows by; or None, and ``train`` does all that by itself, from the environment that torchrun gives
    (accelerate, a Trainer, ``init_process_group``).

    ``save_steps`` asks ``train`` for a checkpoint after every so many updates (``job.save_steps``). A run whose process
    ends in the middle is then gone on with from the last one (``job.resume_from``) by whoever needs it next; it is
    trained anew where not all is found again that the training had then.

    ``cost`` is a declaration, too: the path of a committed file with the predicted memory and FLOPs of each method,
    absolute or relative to pytest's root folder (without pytest, the current one). ``--ftcheck-update`` writes it.
    """

    model: Callable[[], nn.Module]
    train_data: Any
    eval_data: Any = None
    source_data: Any = None
    train: Callable[[Job], None] | None = None
    full: Full | None = field(default_factory=Full)
    lora: LoRA | Peft | None = field(default_factory=LoRA)
    methods: Mapping[str, Method] = field(default_factory=dict)
    steps: int = 500
    seeds: int = 3
    batch_size: int = 8
    accumulation: int = 1
    eval_steps: tuple[int, ...] | None = None
    dtype: str = "float32"
    name: str = "recipe"
    threads: int | None = None
    adapt: Callable[[nn.Module, Method], nn.Module] | None = None
    loss: Callable[[nn.Module, Any], Tensor] | None = None
    collate: Callable[[list[Any]], Any] | None = None
    evaluate: Callable[[Job], float] | None = None
    save: Callable[[nn.Module, Path], None] | None = None
    load: Callable[[Path], nn.Module] | None = None
    merge: Callable[[nn.Module], nn.Module] | None = None
    max_grad_norm: float | None = None
    optimizer: str | None = None
    weight_decay: float | None = None
    cost: str | os.PathLike[str] | None = None
    processes: int = 1
    strategy: Strategy | None = None
    save_steps: int | None = None

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_parts()

    def _check_numbers(self) -> None:
        for name in ("steps", "seeds", "batch_size", "accumulation", "threads", "processes", "save_steps"):
            if not (name in ("threads", "save_steps") and getattr(self, name) is None):
                _at_least_one(name, getattr(self, name))
        if isinstance(self.eval_steps, (int, str)):
            raise RecipeError(f"Recipe.eval_steps is {self.eval_steps!r}; allowed: a tuple of steps")
        for step in self.eval_steps or ():
            _at_least_one("eval_steps", step)
        if self.dtype not in DTYPES:
            raise RecipeError(f"Recipe.dtype is {self.dtype!r}; allowed: {', '.join(DTYPES)}")

    def _check_parts(self) -> None:
        for name in ("model", "train", "adapt", "loss", "collate", "evaluate", "save", "load", "merge"):
            value = getattr(self, name)
            if not (callable(value) or (value is None and name != "model")):
                raise RecipeError(f"Recipe.{name} is {value!r}; allowed: a function")
        if self.source_data is not None and self.eval_data is None:
            raise RecipeError(
                "Recipe.source_data is given without eval_data; allowed: both, they are evaluated together"
            )
        if not (self.cost is None or (isinstance(self.cost, (str, os.PathLike)) and os.fspath(self.cost))):
            raise RecipeError(f"Recipe.cost is {self.cost!r}; allowed: the path of a file")
        self._check_strategy()
        if self.save_steps is not None and self.train is None:
            raise RecipeError(
                f"Recipe.save_steps is {self.save_steps} with train=None; allowed: None, as that writes no checkpoints"
            )
        if not self.declared_methods:
            raise RecipeError("Recipe has no method; allowed: full=Full(...), lora=LoRA(...), or others in methods")
        for name, method in self.declared_methods.items():
            if not isinstance(method, (Full, LoRA, Peft)):
                raise RecipeError(f"Recipe method {name!r} is {method!r}; allowed: Full(...), LoRA(...), Peft(...)")
        for name in set(self.methods) & {"full", "lora"}:
            raise RecipeError(f"Recipe.methods has {name!r}; allowed: other names (that one is Recipe.{name})")

    def _check_strategy(self) -> None:
        from .distributed.strategy import STRATEGIES

        allowed = f"{', '.join(STRATEGIES)}, or a function of the model"
        if not (self.strategy is None or callable(self.strategy) or self.strategy in STRATEGIES):
            raise RecipeError(f"Recipe.strategy is {self.strategy!r}; allowed: {allowed}")
        if self.processes > 1 and self.strategy is None and self.train is None:
            raise RecipeError(
                f"Recipe.strategy is None with processes={self.processes}; allowed: {allowed} (None: train distributes)"
            )

    @property
    def declared_methods(self) -> dict[str, Method]:
        """Name -> method: ``"full"`` and ``"lora"``, where they are declared, and the keys of ``methods``."""
        arms = {"full": self.full, "lora": self.lora}
        return {**{name: method for name, method in arms.items() if method is not None}, **self.methods}

    def method(self, name: str) -> Method:
        """The method called ``name``: ``"full"``, ``"lora"``, or a key of ``methods``."""
        known = self.declared_methods
        if name not in known:
            raise RecipeError(f"no method {name!r} in the recipe; allowed: {', '.join(known)}")
        return known[name]

    def replace(self, **changes: Any) -> Recipe:
        """A recipe like this one with some parts changed."""
        return dataclasses.replace(self, **changes)

    def evaluation_steps(self, steps: int) -> tuple[int, ...]:
        """The updates, up to ``steps``, after which to evaluate; always the horizon itself."""
        wanted = _log_spaced(steps) if self.eval_steps is None else set(self.eval_steps)
        return tuple(sorted({step for step in wanted if 1 <= step <= steps} | {steps}))

    @classmethod
    def from_trainer(cls, make_trainer: Callable[[Job], Any], **parts: Any) -> Recipe:
        """A recipe that trains with a Hugging Face ``Trainer`` or a subclass of it.

        ``make_trainer(job)`` returns the trainer, made with ``job.model``, ``max_steps=job.steps``, ``seed=job.seed``,
        ``learning_rate=job.lr``, ``output_dir=job.output_dir`` and so on. ``parts`` are the recipe's other fields.
        The loss on ``eval_data`` is the trainer's own ``compute_loss`` in evaluation mode.
        """
        from .trainer import TrainerLoop

        loop = TrainerLoop(make_trainer)
        return cls(**{"train": loop.train, "evaluate": loop.evaluate, **parts})

    @classmethod
    def from_script(
        cls, path: str | os.PathLike[str], arguments: Sequence[str] | Callable[[Job], Sequence[str]] = (), **parts: Any
    ) -> Recipe:
        """A recipe that trains by running the script at ``path``, unchanged, in this process.

        ``arguments`` are its command line: a list in which ``{method}``, ``{steps}``, ``{seed}``, ``{lr}``,
        ``{batch_size}``, ``{accumulation}``, ``{device}``, ``{output_dir}`` and ``{resume_from}`` stand for the job's,
        or a function of the job. The script builds its own model and reads its own data; it is ended after ``steps``
        updates. Give ``model`` (the base model) besides, and its parameters are held to the closed form, too.
        """
        from .script import SeenByTheScript, as_it_is, script, unbuilt_model

        own = {"model": unbuilt_model, "adapt": as_it_is, "train_data": SeenByTheScript()}
        return cls(**{"train": script(path, arguments).train, "name": Path(path).stem, **own, **parts})


def _at_least_one(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise RecipeError(f"Recipe.{name} is {value!r}; allowed: a whole number of at least 1")


def _log_spaced(steps: int) -> set[int]:
    """1, 2, 5, 10, 20, ... and 30: the step at which the project's founding example compared too early."""
    grid = {factor * 10**power for power in range(len(str(steps))) for factor in (1, 2, 5)}
    return grid | {30, 3 * steps // 5}
