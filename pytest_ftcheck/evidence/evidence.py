"""What a check can look at: a recipe's models and short trainings, each made once, when it is first asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..building import adapted_model, base_model, rows_of
from ..errors import FtcheckError, NotApplicable, TimeLimitError, TrainingError
from ..isolation import evaluation_mode, preserved_settings
from ..methods import Full
from .few import few_rows
from .training import AS_DECLARED, TIME_LIMIT_S, Training, Variation, carry_out

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..acceptance import Acceptance
    from ..methods import Method
    from ..observers.trace import Trace
    from ..predict.forecast import Forecast
    from ..recipe import Recipe

T = TypeVar("T")


class Evidence:
    """One recipe under one of its methods, on one device, from one seed.

    A training that fails is remembered too: each check that asks for it gets the same TrainingError.
    """

    def __init__(
        self,
        recipe: Recipe,
        method: str,
        device: str = "cpu",
        seed: int = 0,
        time_limit_s: float | None = None,
        root: Path | None = None,
        acceptance: Acceptance | None = None,
        tell: Callable[[Forecast], None] = lambda forecast: None,
    ) -> None:
        self.recipe, self.method_name, self.device, self.seed = recipe, method, device, seed
        # What a recipe's paths are relative to; and the leave to replace what is declared.
        self.root, self.acceptance = root or Path.cwd(), acceptance
        # Is told of what checks predict.
        self.tell = tell
        self.time_limit_s = time_limit_s or TIME_LIMIT_S
        self._trainings: dict[Variation, Training | FtcheckError] = {}
        self._short: Recipe | None = None
        self._memo: dict[Any, Any] = {}

    @property
    def method(self) -> Method:
        return self.recipe.method(self.method_name)

    @property
    def is_full(self) -> bool:
        return isinstance(self.method, Full)

    # Trainings.

    @property
    def standard(self) -> Training:
        """The short training of the recipe as it is declared: most checks need no other."""
        return self.training(AS_DECLARED)

    @property
    def trace(self) -> Trace:
        return self.standard.trace

    def training(self, change: Variation) -> Training:
        """A short training that differs from the recipe by ``change``. Raises TrainingError where it fails."""
        if change not in self._trainings:
            try:
                self._trainings[change] = self._carry_out(change)
            except FtcheckError as error:
                self._trainings[change] = error
        made = self._trainings[change]
        if isinstance(made, FtcheckError):
            raise made.with_traceback(None)
        return made

    def varied(self, **changes: Any) -> Training:
        """``training`` with ``changes`` as the fields of a Variation. NotApplicable where only the variation fails:
        a loop need not allow everything that the audit tries.
        """
        standard = self.standard
        try:
            return self.training(replace(AS_DECLARED, **changes))
        except FtcheckError as error:
            assert standard
            tried = ", ".join(f"{name}={value!r}" for name, value in changes.items())
            raise NotApplicable(f"the training does not run with {tried}: {str(error).splitlines()[0]}") from None

    def _carry_out(self, change: Variation) -> Training:
        recipe = self.recipe if change.whole_data else self.short_recipe
        if recipe is self.recipe or change != AS_DECLARED:
            return carry_out(recipe, self.method_name, self.device, self.seed, change, self.time_limit_s)
        try:
            return carry_out(recipe, self.method_name, self.device, self.seed, change, self.time_limit_s)
        except TimeLimitError:
            raise
        except TrainingError:
            # Perhaps it needs its data as they are; if it fails with them too, that is the answer.
            made = carry_out(self.recipe, self.method_name, self.device, self.seed, change, self.time_limit_s)
            self._short = self.recipe
            return made

    @property
    def short_recipe(self) -> Recipe:
        """The recipe with so few rows that eight updates make several epochs."""
        if self._short is None:
            rows = rows_of(self.recipe, "train_data")
            few = few_rows(rows, self.recipe.batch_size, self.recipe.accumulation)
            evals = rows_of(self.recipe, "eval_data")
            some = few_rows(evals, self.recipe.batch_size, 1) if evals is not None else None
            self._short = self.recipe.replace(train_data=few, eval_data=some)
        return self._short

    @property
    def epochs_end_short(self) -> bool:
        """Whether the last update of an epoch of the user's own data has fewer micro-batches than the others. The few
        rows of an audit always end so; a library may be wrong there, and right on data that divide evenly.
        """
        rows = rows_of(self.recipe, "train_data")
        if not hasattr(rows, "__len__"):
            return False
        return -(-len(rows) // self.recipe.batch_size) % self.recipe.accumulation != 0

    # Models: made anew at each call, with the same weights at each.

    def base_model(self) -> nn.Module:
        """The base model, in the recipe's dtype, on the device."""
        with preserved_settings(self.recipe.threads):
            model = base_model(self.recipe, self.seed).to(self.device)
        if getattr(model, "built_by_training", False):
            raise NotApplicable("the script builds its model by itself; give Recipe.from_script the base model as well")
        return model

    def adapted_model(self) -> nn.Module:
        """What trains, as ``adapt`` makes it; also where the training itself adapts (``job.replace_model``)."""
        with preserved_settings(self.recipe.threads):
            model = adapted_model(self.recipe, self.method_name, self.seed).to(self.device)
        if not self.is_full and not adapters(model) and self.trained_elsewhere:
            raise NotApplicable("the training puts the adapter on by itself; only its own model has it")
        return model

    @property
    def trained_elsewhere(self) -> bool:
        """Whether the training replaced the model that it was given."""
        return self.trace.model is not self.standard.job.model or any(
            name not in self.standard.base_state for name in self.trace.initial
        )

    def moved_model(self, by: float = 0.05) -> nn.Module:
        """A copy of the model as adapted in which every trainable parameter has moved by a random amount of root mean
        square ``by``: as after a long training, without one. The same at every call.
        """
        import copy

        import torch

        if ("moved", by) not in self._memo:
            model = copy_of(self.trace.model) if self.trained_elsewhere else self.adapted_model()
            generator = torch.Generator().manual_seed(self.seed + 1)
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    # Before 0.6 PEFT leaves the original of a copied module trainable, though nothing reaches it.
                    if parameter.requires_grad and ".original_module." not in name:
                        noise = torch.randn(parameter.shape, generator=generator)
                        parameter.add_((by * noise).to(parameter))
            self._memo["moved", by] = model
        return copy.deepcopy(self._memo["moved", by])  # type: ignore[no-any-return]

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """What ``make()`` returns, made when it is first asked for under ``key``; that it is not applicable or fails is
        remembered too. Whoever takes it must not change it.
        """
        if key not in self._memo:
            try:
                self._memo[key] = make()
            except (NotApplicable, FtcheckError) as answer:
                self._memo[key] = answer
        made = self._memo[key]
        if isinstance(made, (NotApplicable, FtcheckError)):
            raise made.with_traceback(None)
        return made  # type: ignore[no-any-return]

    # Outputs.

    def inputs(self) -> dict[str, Any]:
        """The arguments of the first training call of the model, without the labels: what the user's loop gives it."""
        forwards = self.trace.forwards
        if not forwards:
            raise NotApplicable("no forward pass of the model was seen")
        left_out = ["labels", "num_items_in_batch", "return_outputs"]
        if _decodes_labels(self.trace.model, forwards[0].inputs):
            left_out.remove("labels")
        return {key: value for key, value in forwards[0].inputs.items() if key not in left_out}

    def logits(self, model: nn.Module, **changes: Any) -> Tensor:
        """The logits [rows, length, vocabulary], in float32, of ``model`` in evaluation mode on ``inputs()``."""
        import torch

        from ..observers.loss import logits_of

        with torch.no_grad(), evaluation_mode(model), _silent():
            inputs = {**self.inputs(), **changes}
            logits = logits_of(self._output(model, inputs))
            if logits is None:
                # A trainer's own flag (TRL's fused_lm_head) may have asked for the loss alone.
                tensors = {key: value for key, value in inputs.items() if isinstance(value, torch.Tensor)}
                logits = logits_of(self._output(model, {**tensors, **changes}))
        if logits is None:
            raise NotApplicable("the model's output shows no logits")
        return logits.float()

    def _output(self, model: nn.Module, inputs: dict[str, Any]) -> Any:
        """What ``model`` returns; with the labels of the training where it cannot be called without any."""
        try:
            return model(**inputs)
        except Exception:
            labels = self.trace.forwards[0].inputs.get("labels")
            if labels is None or "labels" in inputs:
                raise
            return model(**inputs, labels=labels)


def _decodes_labels(model: nn.Module, inputs: dict[str, Any]) -> bool:
    """Whether the model is an encoder-decoder that makes its decoder's inputs from the labels."""
    config = getattr(model, "config", None)
    given = any(name in inputs for name in ("decoder_input_ids", "decoder_inputs_embeds"))
    return bool(getattr(config, "is_encoder_decoder", False)) and not given


def copy_of(model: nn.Module) -> nn.Module:
    """A copy of a model that trained, with its class's own forward: one that a trainer put on the model (TRL does)
    would go on calling the original.
    """
    import copy

    copied = copy.deepcopy(model)
    for one in (copied, getattr(copied, "get_base_model", lambda: copied)()):
        vars(one).pop("forward", None)
    return copied


def adapters(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules of ``model`` that PEFT wrapped with an adapter, by name."""
    modules = list(model.named_modules())
    try:
        from peft.tuners.tuners_utils import BaseTunerLayer
    except ImportError:
        return [(name, module) for name, module in modules if hasattr(module, "lora_A")]
    kind: Any = BaseTunerLayer
    return [(name, module) for name, module in modules if isinstance(module, kind)]


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
