"""Probes of TRL's preference and reward trainers: their losses, what they accumulate, the models that they make."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ..data import dataset, preferences, texts
from ..loops import known, training_arguments, trl_trainer
from ..models import build, moved
from ..probe import from_trl, probe
from ..tokenizer import tokenizer
from ..updates import flat, job, relative, run

if TYPE_CHECKING:
    from ...recipe import Job

TRL = "https://github.com/huggingface/trl/pull/"
NEEDS = "transformers,accelerate,datasets,trl"


def _rows(name: str, count: int) -> list[dict[str, Any]]:
    if name == "KTO":
        rows = preferences(count)
        return [
            {"prompt": r["prompt"], "completion": " " + r["chosen"], "label": i % 2 == 0} for i, r in enumerate(rows)
        ]
    if name == "Reward":
        return [
            {"chosen": f"{r['prompt']} {r['chosen']}", "rejected": f"{r['prompt']} {r['rejected']}"}
            for r in preferences(count)
        ]
    if name == "SFT":
        return texts(count)
    return [{**row, "chosen": " " + row["chosen"], "rejected": " " + row["rejected"]} for row in preferences(count)]


def _model(name: str) -> Any:
    from ...evidence.dropout import without_dropout

    made = build("llama-classifier", num_labels=1) if name == "Reward" else build("llama")
    without_dropout(made)
    return moved(made, 0.05)


def _make(name: str, arguments: dict[str, Any], made: Job) -> Any:
    parts = {"ref_model": build("llama", seed=5)} if name in ("DPO", "KTO") else {}
    return trl_trainer(
        made, name, {"max_length": 32, "max_prompt_length": 16, "max_grad_norm": 0.0, **arguments}, **parts
    )


@probe(
    "preference-gradients-accumulate",
    "equivalence",
    "four rows at once and four one by one give a preference trainer the same gradient",
    library="trl",
    cause="the trainer's loss is not divided by the accumulation steps: its gradients are that many times too large",
    cases=lambda: ("DPO", "ORPO", "CPO", "Reward", "SFT", "DPO-ipo", "DPO-hinge"),
    needs=NEEDS,
    links=[f"{TRL}3716"],
)
def gradients_accumulate(case: str, seed: int) -> Iterator[str]:
    name, _, loss = case.partition("-")
    make = functools.partial(_make, name, {"loss_type": loss} if loss else {})
    rows = _rows(name, 4)
    large, small = (
        flat(run(make, _model(name), rows, batch_size=size, accumulation=4 // size).updates[0].gradients)
        for size in (4, 1)
    )
    ratio = float(small.norm() / large.norm())
    # ORPO and CPO add a mean over tokens, which rows of other lengths weigh otherwise: only a wrong scale is told.
    limit = 0.5 if name in ("ORPO", "CPO") else 1e-3
    away = abs(ratio - 1) if name in ("ORPO", "CPO") else relative(small, large)
    if not away <= limit:
        yield f"the gradient of 4 accumulated rows is {ratio:.3f} times that of the 4 rows in one batch"


@probe(
    "preference-rows-are-supervised",
    "labels",
    "every row of a preference batch keeps words of its answer, however it is truncated",
    library="trl",
    cause="truncation removes the answer, or keeps the padding: a row without a gradient",
    cases=lambda: ("keep_end", "keep_start"),
    needs=NEEDS,
    links=[f"{TRL}3398"],
)
def rows_are_supervised(mode: str, seed: int) -> Iterator[str]:
    long = " ".join(f"w{i}" for i in range(20))
    rows = [
        {"prompt": "w1 w2", "chosen": " w9 w10", "rejected": " w20 w21"},
        {"prompt": long if mode == "keep_end" else "w3 w4", "chosen": " w11 w12", "rejected": " w22 w23"},
    ]
    settings = {"max_length": 12, "max_prompt_length": 30, "truncation_mode": mode}
    if "truncation_mode" not in known(from_trl("DPOConfig").__init__, settings):
        raise NotApplicable("the installed DPOConfig does not know truncation_mode")
    with tempfile.TemporaryDirectory() as folder:
        trainer = _make("DPO", settings, job(_model("DPO"), rows, folder, batch_size=2))
        batch = next(iter(trainer.get_train_dataloader()))
        counts = _supervised(trainer, batch)
    if min(counts) == 0:
        yield f"of {len(counts)} answers {counts.count(0)} have no word left after truncation to 12 tokens"


def _supervised(trainer: Any, batch: Any) -> list[float]:
    """How much of each answer counts: its words where the batch says, else whether its log-probability is not 0."""
    import torch

    if "completion_mask" in batch:
        return [float(row.sum()) for row in batch["completion_mask"]]
    function = getattr(trainer, "concatenated_forward", None)
    if function is None:
        raise NotApplicable("the installed release shows no log-probabilities")
    with torch.no_grad():
        output = function(trainer.model, batch)
    found = [output["chosen_logps"], output["rejected_logps"]] if isinstance(output, dict) else list(output[:2])
    return [abs(float(value)) for logs in found for value in logs]


@probe(
    "dpo-starts-at-log-two",
    "loss",
    "with the policy as its own reference DPO's loss is log 2 before any update",
    library="trl",
    cause="policy and reference see other inputs, masks or dropout",
    cases=lambda: ("reference", "adapter"),
    needs=NEEDS,
)
def starts_at_log_two(case: str, seed: int) -> Iterator[str]:
    import math

    model = _model("DPO")
    if case == "adapter":
        from peft import get_peft_model

        from ..adapters import config_of

        model = get_peft_model(model, config_of("lora", task_type="CAUSAL_LM"))
    reference = {"ref_model": _model("DPO")} if case == "reference" else {}

    def make(made: Job) -> Any:
        return trl_trainer(made, "DPO", {"max_length": 32, "max_prompt_length": 16}, **reference)

    loss = run(make, model, _rows("DPO", 4)).updates[0].loss
    if not abs(loss - math.log(2)) <= 1e-3:
        yield f"the first loss is {loss:.5f} instead of log 2 = {math.log(2):.5f}"


@probe(
    "reference-model-shares-and-rests",
    "memory",
    "create_reference_model computes the same, trains nothing, and shares what it is told to",
    library="trl",
    cause="shared layers are copied (memory is doubled), or the reference can train",
    cases=lambda: ("copied", "shared"),
    needs="trl",
    links=[f"{TRL}6053"],
)
def reference_model(case: str, seed: int) -> Iterator[str]:
    from ..models import batch, logits_of_model
    from ..probe import distance

    create = from_trl("create_reference_model")
    model = moved(build("llama", num_hidden_layers=4))
    reference = create(model, num_shared_layers=3) if case == "shared" else create(model)
    inputs = batch("llama")
    if distance(logits_of_model(reference, inputs), logits_of_model(model, inputs)) != 0:
        yield "the reference computes something else than its model"
    trainable = [name for name, p in reference.named_parameters() if p.requires_grad]
    if trainable:
        yield f"{len(trainable)} tensors of the reference can train"
    if reference.training:
        yield "the reference is in training mode: its dropout is on"
    alone, both = _bytes(model), _bytes(model, reference)
    limit = 1.5 if case == "shared" else 2.0
    if not both <= limit * alone:
        yield f"model and reference take {both} bytes together, {both / alone:.2f} times the model's {alone}"


def _bytes(*models: Any) -> int:
    storages = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for m in models for p in m.parameters()}
    return sum(storages.values())


@probe(
    "reward-head-follows-the-seed",
    "learning",
    "a reward model made from a path has the same new head for the same seed",
    library="trl",
    cause="the head is drawn before the trainer sets its seed: runs with one seed differ",
    needs="transformers,accelerate,datasets,trl>=0.24",
    links=[f"{TRL}4887"],
)
def reward_head(case: str, seed: int) -> Iterator[str]:
    import torch

    from ..probe import distance

    trainer, config = from_trl("RewardTrainer"), from_trl("RewardConfig")
    heads = []
    with tempfile.TemporaryDirectory() as folder:
        build("llama").save_pretrained(folder)
        tokenizer().save_pretrained(folder)
        for before in range(2):
            torch.manual_seed(100 + before)
            arguments = training_arguments(job(build("llama"), [], f"{folder}/out"), config, seed=42)
            made = trainer(model=folder, args=arguments, train_dataset=dataset(_rows("Reward", 4)))
            heads.append(made.model.score.weight.detach().float().clone())
    if distance(heads[0], heads[1]) != 0:
        yield f"two heads from seed 42 differ by {distance(heads[0], heads[1]):.3f}"


@probe(
    "reward-loss-is-the-log-odds",
    "loss",
    "the reward trainer's loss is −log σ(chosen − rejected)",
    library="trl",
    cause="chosen and rejected are mixed up, padded differently, or a margin is applied wrongly",
    needs=NEEDS,
)
def reward_loss(case: str, seed: int) -> Iterator[str]:
    import torch
    import torch.nn.functional as F

    model, rows, words = _model("Reward"), _rows("Reward", 4), tokenizer()
    make = functools.partial(_make, "Reward", {"center_rewards_coefficient": None})
    trace = run(make, model, rows)
    eos = trace.forwards[0].inputs["input_ids"]
    ends = bool((eos == words.eos_token_id).any())

    def score(text: str) -> Any:
        ids = words(text)["input_ids"] + ([words.eos_token_id] if ends else [])
        return model(input_ids=torch.tensor([ids])).logits[0, 0]

    model = _model("Reward").eval()
    with torch.no_grad():
        wanted = sum(float(-F.logsigmoid(score(r["chosen"]) - score(r["rejected"]))) for r in rows) / len(rows)
    if not abs(trace.updates[0].loss - wanted) <= 1e-3:
        yield f"the loss is {trace.updates[0].loss:.5f} instead of {wanted:.5f}"
