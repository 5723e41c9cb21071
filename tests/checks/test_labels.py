"""What is learned where: the checks of labels on sound and on broken ways to make them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from language_models import (
    classifier_recipe,
    everything_on_the_left,
    gpt2_recipe,
    masked_recipe,
    next_token,
    of_logits,
    on_the_left,
    padded_with_the_end,
    plain_loop,
    shifted_in_the_data,
    t5_recipe,
    to_decoder,
    token_losses,
    trainer_recipe,
    without_mask,
)

from pytest_ftcheck import Recipe
from pytest_ftcheck.checks.examination import check_training
from pytest_ftcheck.checks.sabotages.labels import LABELS_SHIFTED_TWICE, PADDING_LEARNED
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.errors import NotApplicable
from pytest_ftcheck.tasks.instruction import IGNORED, PAD, instruction_recipe

VerdictOn = Callable[..., Verdict]

SOUND: dict[str, Callable[[], Recipe]] = {
    "a loss of one's own": lambda: instruction_recipe(loss=of_logits(lambda z, b: next_token(z, b["labels"]))),
    "no mask, labels masked": lambda: instruction_recipe(collate=without_mask),
    "no mask and no padding token": lambda: gpt2_recipe(collate=without_mask),
    "padded on the left": lambda: instruction_recipe(collate=on_the_left),
    "padded with the end": lambda: instruction_recipe(collate=padded_with_the_end),
    "shifted in the data": lambda: instruction_recipe(
        collate=shifted_in_the_data,
        loss=of_logits(lambda z, b: F.cross_entropy(z.flatten(0, 1), b["labels"].flatten())),
    ),
    "focal loss": lambda: instruction_recipe(loss=of_logits(_focal)),
    "encoder-decoder": t5_recipe,
    "encoder-decoder in bfloat16": lambda: t5_recipe(dtype="bfloat16"),
    "classifier": classifier_recipe,
    "masked tokens": masked_recipe,
    "Trainer, accumulation 4": lambda: trainer_recipe(accumulation=4),
    "Trainer with mixed precision": lambda: trainer_recipe(arguments={"bf16": True}),
    "accumulation 4 in bfloat16": lambda: instruction_recipe(accumulation=4, dtype="bfloat16"),
}


def _focal(logits: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    losses, counts = token_losses(logits, batch)
    return ((1 - torch.exp(-losses)) ** 2 * losses * counts).sum() / counts.sum()


@pytest.mark.parametrize("name", SOUND)
def test_no_check_of_labels_or_loss_alarms_on_sound_trainings(name: str) -> None:
    verdicts = check_training(SOUND[name](), methods=["full"], select=["labels", "loss"])
    assert [str(verdict) for verdict in verdicts if verdict.failed] == []


def test_labels_that_are_not_shifted_are_found(verdict_on: VerdictOn) -> None:
    own = of_logits(lambda z, b: F.cross_entropy(z.flatten(0, 1), b["labels"].flatten()))
    verdict = verdict_on("labels-shifted-once", instruction_recipe(loss=own))
    assert "taught the token that they are at" in str(verdict)


def test_masked_tokens_are_not_asked_for_a_shift(verdict_on: VerdictOn) -> None:
    assert verdict_on("labels-shifted-once", masked_recipe(), "full").status == "not applicable"


def test_a_first_token_learned_from_padding_is_found(verdict_on: VerdictOn) -> None:
    verdict = verdict_on("padding-not-supervised", instruction_recipe(collate=everything_on_the_left))
    assert verdict.status == "failed"
    assert "padded on the left" in verdict.findings[0].cause


def test_a_mask_of_the_loss_that_is_off_by_one_is_found(verdict_on: VerdictOn) -> None:
    def off_by_one(logits: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        following = batch["input_ids"][:, 1:].masked_fill(batch["attention_mask"][:, :-1] == 0, IGNORED)
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), following.flatten())

    verdict = verdict_on("padding-not-supervised", instruction_recipe(loss=of_logits(off_by_one)))
    assert verdict.status == "failed"
    assert verdict.findings[0].evidence[0].startswith("0 positions are padding themselves")


def test_padding_in_the_labels_of_a_decoder_is_found(verdict_on: VerdictOn) -> None:
    def padded(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        batch = to_decoder(rows)
        return {**batch, "labels": batch["labels"].masked_fill(batch["labels"] == IGNORED, PAD)}

    assert verdict_on("padding-not-supervised", t5_recipe(collate=padded), "full").status == "failed"


def test_rows_of_nothing_but_padding_are_found(verdict_on: VerdictOn) -> None:
    def cut(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        return {key: value[:, -3:] for key, value in instruction_recipe().collate(rows).items()}  # type: ignore[misc]

    train = plain_loop(lambda count, total, parts: 1 / parts)
    verdict = verdict_on("every-row-supervised", instruction_recipe(collate=cut, train=train))
    assert "nothing but padding" in str(verdict)


def test_unknown_tokens_are_counted_where_the_tokenizer_is_known(verdict_on: VerdictOn) -> None:
    class Tokenizer:
        unk_token_id = 2

        def __call__(self, *_: object) -> None: ...

    def knowing(job: object) -> object:
        trainer = make_trainer(job)
        trainer.processing_class = Tokenizer()
        return trainer

    recipe = trainer_recipe()
    loop = recipe.train.__self__  # type: ignore[union-attr]
    make_trainer, loop.make_trainer = loop.make_trainer, knowing
    verdict = verdict_on("targets-are-real-tokens", recipe, "full")
    assert "unknown token" in str(verdict)


def test_mixed_precision_hides_nothing(verdict_on: VerdictOn) -> None:
    # The output is a copy in float32, and the loss was taken of what it is a copy of.
    recipe = PADDING_LEARNED.apply(trainer_recipe(arguments={"bf16": True}))
    assert verdict_on("padding-not-supervised", recipe, "full").status == "failed"


def test_a_sabotage_reaches_a_trainer(verdict_on: VerdictOn) -> None:
    verdict = verdict_on("labels-shifted-once", LABELS_SHIFTED_TWICE.apply(trainer_recipe()), "full")
    assert verdict.status == "failed"


def test_a_sabotage_that_would_change_nothing_is_not_applicable() -> None:
    blocks = [{"input_ids": [5, 6, 7, 8], "labels": [5, 6, 7, 8]}] * 12
    with pytest.raises(NotApplicable):
        PADDING_LEARNED.apply(instruction_recipe(train_data=blocks))
    with pytest.raises(NotApplicable):
        LABELS_SHIFTED_TWICE.apply(t5_recipe())
