"""How much each token counts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from language_models import (
    Batch,
    classifier_recipe,
    next_token,
    of_logits,
    plain_loop,
    t5_recipe,
    token_losses,
    trainer_recipe,
)
from torch import Tensor

from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.tasks.instruction import collate, instruction_recipe, train_rows

VerdictOn = Callable[..., Verdict]


def mean_of_means(count: int, total: int, parts: int) -> float:
    return 1 / parts


def row_means(logits: Tensor, batch: Batch) -> Tensor:
    losses, counts = token_losses(logits, batch)
    return ((losses * counts).sum(1) / counts.sum(1)).mean()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_mean_of_means_is_found(dtype: str, verdict_on: VerdictOn) -> None:
    recipe = instruction_recipe(train=plain_loop(mean_of_means), dtype=dtype)
    verdict = verdict_on("tokens-weigh-the-same", recipe)
    assert verdict.status == "failed"
    assert "averages are averaged" in verdict.findings[0].cause


def test_a_mean_of_means_over_rows_of_one_length_is_the_mean(verdict_on: VerdictOn) -> None:
    blocks = [{"input_ids": row["input_ids"][:5], "labels": row["input_ids"][:5]} for row in train_rows()[:16]]
    recipe = instruction_recipe(train=plain_loop(mean_of_means), train_data=blocks)
    assert verdict_on("tokens-weigh-the-same", recipe).status == "passed"


@pytest.mark.parametrize("kind", ["rows", "classes"])
def test_weights_by_design_are_no_finding(kind: str, verdict_on: VerdictOn) -> None:
    weights = torch.linspace(1, 3, 64)
    loss = row_means if kind == "rows" else lambda z, b: next_token(z, b["labels"], weight=weights)
    recipe = instruction_recipe(loss=of_logits(loss), train=plain_loop(mean_of_means))
    assert verdict_on("tokens-weigh-the-same", recipe).status == "not applicable"


def test_whole_rows_are_not_compared_as_tokens(verdict_on: VerdictOn) -> None:
    assert verdict_on("tokens-weigh-the-same", classifier_recipe(), "full").status == "not applicable"
    assert verdict_on("loss-scale-is-a-mean", classifier_recipe(), "full").status == "passed"


@pytest.mark.parametrize(
    ("weigh", "cause"),
    [
        (lambda count, total, parts: count / total / parts, "twice"),
        (lambda count, total, parts: parts * count / total, "added up"),
        (lambda count, total, parts: float(count), "a sum over tokens"),
        (lambda count, total, parts: 7 * count / total, "multiplied by a factor"),
    ],
)
def test_a_loss_of_another_scale_is_found(
    weigh: Callable[[int, int, int], float], cause: str, verdict_on: VerdictOn
) -> None:
    verdict = verdict_on("loss-scale-is-a-mean", instruction_recipe(train=plain_loop(weigh)))
    assert verdict.status == "failed"
    assert cause in verdict.findings[0].cause


def test_labels_counted_before_the_shift_are_no_finding(verdict_on: VerdictOn) -> None:
    rows = [{"input_ids": row["input_ids"], "labels": row["input_ids"]} for row in train_rows()]

    def by_labels(model: torch.nn.Module, batch: Batch) -> Tensor:
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        return next_token(logits, batch["labels"], reduction="sum") / (batch["labels"] != -100).sum()

    recipe = instruction_recipe(train_data=rows, loss=by_labels, accumulation=1)
    assert verdict_on("loss-scale-is-a-mean", recipe).status == "passed"


def test_a_trainer_that_ignores_the_accumulation_is_found(verdict_on: VerdictOn) -> None:
    # The model takes **kwargs, so the Trainer leaves it to the model's loss to divide, which it does not.
    from language_models import tiny_t5, to_decoder

    recipe = trainer_recipe(tiny_t5, collate=to_decoder, lora=None)
    verdict = verdict_on("loss-scale-is-a-mean", recipe, "full")
    import transformers

    if not transformers.__version__.startswith("5.23"):
        pytest.skip("about one release")
    assert "num_items_in_batch" in str(verdict)


def test_declared_smoothing_is_expected(verdict_on: VerdictOn) -> None:
    smooth = {"label_smoothing_factor": 0.1}
    assert verdict_on("label-smoothing-as-declared", trainer_recipe(arguments=smooth), "full").status == "passed"


def test_smoothing_that_a_loss_of_its_own_forgets_is_found(verdict_on: VerdictOn) -> None:
    from transformers import Trainer, TrainingArguments

    from pytest_ftcheck import Recipe

    class Forgetful(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):  # type: ignore[no-untyped-def]
            labels = inputs["labels"]
            out = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
            loss = next_token(out.logits, labels, reduction="sum") / num_items_in_batch
            return (loss, out) if return_outputs else loss

    def make_trainer(job):  # type: ignore[no-untyped-def]
        arguments = TrainingArguments(
            output_dir=str(job.output_dir), max_steps=job.steps, use_cpu=True, report_to=[], label_smoothing_factor=0.1,
            remove_unused_columns=False, disable_tqdm=True, save_strategy="no", logging_strategy="no",
        )  # fmt: skip
        return Forgetful(model=job.model, args=arguments, data_collator=collate, train_dataset=job.train_data)

    sound = instruction_recipe()
    recipe = Recipe.from_trainer(make_trainer, model=sound.model, train_data=sound.train_data, lora=None)
    assert "declare 0.100" in str(verdict_on("label-smoothing-as-declared", recipe, "full"))


def test_decoders_count_their_own_labels(verdict_on: VerdictOn) -> None:
    assert verdict_on("loss-scale-is-a-mean", t5_recipe(), "full").status == "passed"
