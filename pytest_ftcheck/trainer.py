"""Hugging Face ``Trainer``s, and subclasses of it, as the training loop of a recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .errors import RecipeError

if TYPE_CHECKING:
    from .recipe import Job


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
        self._trainer = trainer
        try:
            trainer.train()
        finally:
            # A trainer holds the model and its optimizer: gigabytes that the next run needs.
            self._trainer = None

    def evaluate(self, job: Job) -> float:
        """Mean over the evaluation batches of the trainer's ``compute_loss``, weighted by supervised tokens."""
        import torch

        from .training import supervised_tokens

        trainer, total, tokens = self._trainer, 0.0, 0
        with torch.no_grad():
            for batch in trainer.get_eval_dataloader(job.eval_data):
                inputs = trainer._prepare_inputs(batch)
                count = supervised_tokens(inputs, job.model)
                total += float(trainer.compute_loss(job.model, inputs)) * count
                tokens += count
        if tokens == 0:
            raise RecipeError("eval_data gives no evaluation batch with a label; allowed: at least one")
        return total / tokens
