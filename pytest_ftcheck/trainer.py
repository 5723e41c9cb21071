"""Hugging Face ``Trainer``s, and subclasses of it, as the training loop of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .errors import RecipeError

if TYPE_CHECKING:
    from .recipe import Job


@dataclass(frozen=True)
class TrainerRecord:
    """What a trainer that has trained says of itself. ``logs`` are the entries of its log; ``train_dataset``: the rows
    as it prepared them; ``tokenizer`` is None where it was given none. ``arguments`` are its ``TrainingArguments``.
    """

    logs: tuple[dict[str, Any], ...]
    train_dataset: Any
    tokenizer: Any
    label_smoothing: float
    arguments: Any = None

    @classmethod
    def of(cls, trainer: Any) -> TrainerRecord:
        # transformers called it the tokenizer before 4.46.
        names = ("processing_class", "tokenizer")
        found = (getattr(trainer, name, None) for name in names if name in vars(trainer))
        return cls(
            logs=tuple(dict(entry) for entry in getattr(getattr(trainer, "state", None), "log_history", ())),
            train_dataset=getattr(trainer, "train_dataset", None),
            tokenizer=next((one for one in found if one is not None), None),
            label_smoothing=float(getattr(trainer.args, "label_smoothing_factor", 0.0) or 0.0),
            arguments=trainer.args,
        )


@dataclass
class TrainerLoop:
    """Trains a job with the trainer that ``make_trainer(job)`` returns, and evaluates with its own loss."""

    make_trainer: Callable[[Job], Any]
    # The trainer at work; evaluation happens in the middle of its training.
    _trainer: Any = field(default=None, repr=False, compare=False)

    def train(self, job: Job) -> None:
        """Make the trainer and let it train. Its model becomes the job's: trainers that take a PEFT configuration
        adapt the model by themselves.
        """
        trainer = self.make_trainer(job)
        if not callable(getattr(trainer, "train", None)):
            raise RecipeError(f"make_trainer(job) returned {trainer!r}; allowed: a transformers.Trainer")
        if trainer.model is not job.model:
            job.replace_model(trainer.model)
        _obey(trainer.args, job)
        self._trainer = trainer
        try:
            trainer.train(**({"resume_from_checkpoint": str(job.resume_from)} if job.resume_from else {}))
            job.trainer = TrainerRecord.of(trainer)
        finally:
            # A trainer holds the model and its optimizer: gigabytes that the next run needs.
            self._trainer = None

    def evaluate(self, job: Job) -> float:
        """Mean over the evaluation batches of the trainer's ``compute_loss``, weighted by supervised tokens."""
        from .training import mean_per_token

        return mean_per_token(self._evaluated_batches(job))

    def _evaluated_batches(self, job: Job) -> Iterator[tuple[float, int]]:
        """(mean loss, supervised tokens) of each batch of the trainer's evaluation loader."""
        import torch

        from .training import supervised_tokens

        for batch in self._trainer.get_eval_dataloader(job.eval_data):
            inputs = self._trainer._prepare_inputs(batch)
            with torch.no_grad():
                loss = float(self._trainer.compute_loss(job.model, inputs))
            yield loss, supervised_tokens(inputs, job.model)


def _obey(arguments: Any, job: Job) -> None:
    """Let the trainer write checkpoints and evaluate where a check asks for it; all else stays as it was made."""
    if job.save_steps is not None:
        _every(arguments, "save", job.save_steps)
        arguments.output_dir = str(job.output_dir)
    if job.eval_steps is not None and job.eval_data is not None:
        # transformers called it evaluation_strategy before 4.41.
        _every(arguments, "eval" if hasattr(arguments, "eval_strategy") else "evaluation", job.eval_steps)
        arguments.do_eval = True


def _every(arguments: Any, what: str, steps: int) -> None:
    from transformers.trainer_utils import IntervalStrategy

    kind: Any = type(getattr(arguments, f"{what}_strategy", IntervalStrategy.STEPS))
    setattr(arguments, f"{what}_strategy", kind("steps") if kind is not str else IntervalStrategy.STEPS)
    setattr(arguments, "save_steps" if what == "save" else "eval_steps", steps)
