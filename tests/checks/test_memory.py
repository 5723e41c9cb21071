"""What a training holds on to: leaks are found, and numbers kept for a log, caches and averages are not reported."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pytest_ftcheck import Job, Recipe
from pytest_ftcheck.checks.examination import check_training
from pytest_ftcheck.checks.memory import saved_bytes
from pytest_ftcheck.checks.static_memory import held_by
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.evidence.evidence import Evidence
from pytest_ftcheck.evidence.footprint import footprint
from pytest_ftcheck.tasks.instruction import instruction_recipe, tiny_llama
from pytest_ftcheck.tasks.loop import epochs
from pytest_ftcheck.training import collate as stack

Judge = Callable[..., Verdict]
# What a loop does with a micro-batch: (job, batch, kept) -> None, backward pass included.
Pass = Callable[[Job, Any, list[Any]], None]


def plain(job: Job, batch: Any, kept: list[Any]) -> None:
    (job.loss(job.model, batch) / job.accumulation).backward()  # type: ignore[no-untyped-call]


def keeping(what: Callable[[Any], Any], **options: Any) -> Pass:
    """Keeps ``what(output)`` of every batch."""

    def one(job: Job, batch: Any, kept: list[Any]) -> None:
        output = job.model(**batch)
        (output.loss / job.accumulation).backward(**options)
        kept.append(what(output))

    return one


def looping(
    one: Pass, after: Callable[[Job, list[Any]], None] = lambda job, kept: None, optimizer: Any = torch.optim.AdamW
) -> Recipe:
    def train(job: Job) -> None:
        steps = optimizer([p for p in job.model.parameters() if p.requires_grad], lr=job.lr)
        windows, kept = epochs(job), []  # type: tuple[Iterator[Any], list[Any]]
        job.model.train()
        for _ in range(job.steps):
            for rows in next(windows):
                one(job, job.collate(rows), kept)
            steps.step()
            steps.zero_grad()
            after(job, kept)

    return instruction_recipe(train=train)


def evaluating(job: Job, kept: list[Any]) -> None:
    """The loss of an evaluation batch, with its graph."""
    job.model.eval()
    kept.append(job.loss(job.model, job.collate(job.eval_data[:4])))
    job.model.train()


def averaging(job: Job, kept: list[Any]) -> None:
    """An average of the weights."""
    weights = [p.detach().clone() for p in job.model.parameters()]
    kept[:] = [[0.9 * old + 0.1 * new for old, new in zip(kept[0], weights, strict=True)]] if kept else [weights]


LEAKS: dict[str, tuple[Recipe, list[str]]] = {
    "losses kept with their graph": (looping(keeping(lambda output: output.loss)), ["no-graph-is-kept"]),
    "logits kept": (looping(keeping(lambda output: output.logits.detach())), ["memory-does-not-grow"]),
    "graph retained": (
        looping(keeping(lambda output: output.loss, retain_graph=True)),
        ["no-graph-is-kept", "memory-does-not-grow"],
    ),
    "evaluations kept": (
        looping(plain, evaluating),
        ["no-graph-is-kept", "memory-does-not-grow"],
    ),
}
GROWTH = ["no-graph-is-kept", "memory-does-not-grow"]


@pytest.mark.parametrize("leak", LEAKS)
def test_a_leak_is_found_by_the_checks_that_name_it(leak: str) -> None:
    recipe, expected = LEAKS[leak]
    verdicts = check_training(recipe, methods=["lora"], select=GROWTH)
    assert {v.check for v in verdicts if v.failed} == set(expected)


def test_a_sum_of_losses_with_its_graph_is_found(verdict_on: Judge) -> None:
    def adding(job: Job, batch: Any, kept: list[Any]) -> None:
        loss = job.loss(job.model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        kept[:] = [kept[0] + loss if kept else loss]

    assert "total += loss" in str(verdict_on("no-graph-is-kept", looping(adding)))


def per_token(output: Any) -> Tensor:
    return output.logits.detach().amax(-1)  # type: ignore[no-any-return]


HEALTHY = {
    "numbers": looping(keeping(lambda output: output.loss.item())),
    "detached losses": looping(keeping(lambda output: output.loss.detach())),
    "a number per token": looping(keeping(per_token)),
    "average of the weights": looping(plain, averaging),
}


@pytest.mark.parametrize("kind", HEALTHY)
def test_what_is_kept_for_a_purpose_is_not_reported(kind: str) -> None:
    verdicts = check_training(HEALTHY[kind], methods=["lora"], select=GROWTH)
    assert [v.status for v in verdicts] == ["passed", "passed"]


def test_a_cache_of_collated_batches_is_not_reported(verdict_on: Judge) -> None:
    cache: dict[int, Any] = {}

    def cached(job: Job, batch: Any, kept: list[Any]) -> None:
        number = len(kept) % 5
        plain(job, cache.setdefault(number, batch), kept)
        kept.append(None)

    assert verdict_on("memory-does-not-grow", looping(cached)).status == "passed"


def test_a_footprint_says_when_what_is_held_was_made() -> None:
    seen = footprint(Evidence(looping(keeping(lambda output: output.logits.detach())), "lora"))
    assert len(seen.kept_bytes) == 8
    assert list(seen.old) == [3, 4, 5]
    # float32 logits of 64 tokens for each of the input's int64 ids, mask and labels.
    assert all(held >= size / 24 * 4 * 64 for held, size in zip(seen.kept_bytes, seen.input_bytes, strict=True))
    assert not any(seen.kept_graphs[:-1])


def test_weights_left_out_of_the_optimizer_and_not_frozen_are_found(verdict_on: Judge) -> None:
    def thawed(model: nn.Module, method: Any) -> nn.Module:
        from pytest_ftcheck.training import adapt

        adapted = adapt(model, method)
        adapted.get_parameter("base_model.model.lm_head.weight").requires_grad_(True)
        return adapted

    def train(job: Job) -> None:
        steps = torch.optim.AdamW([p for n, p in job.model.named_parameters() if "lora_" in n], lr=job.lr)
        windows = epochs(job)
        for _ in range(job.steps):
            for rows in next(windows):
                plain(job, job.collate(rows), [])
            steps.step()
            steps.zero_grad()

    found = verdict_on("no-gradient-on-frozen-weights", instruction_recipe(train=train, adapt=thawed))
    assert "1 weights that do not train hold 8.19 kB of gradients" in str(found)


def test_a_second_optimizer_s_weights_are_not_idle(verdict_on: Judge) -> None:
    class Both:
        def __init__(self, parameters: list[nn.Parameter], lr: float) -> None:
            self.parts = [torch.optim.AdamW(parameters[::2], lr=lr), torch.optim.SGD(parameters[1::2], lr=lr)]

        def step(self) -> None:
            for part in self.parts:
                part.step()

        def zero_grad(self) -> None:
            for part in self.parts:
                part.zero_grad()

    assert verdict_on("no-gradient-on-frozen-weights", looping(plain, optimizer=Both)).status == "passed"


@pytest.mark.parametrize(
    ("optimizer", "status"),
    [
        (torch.optim.Adam, "passed"),
        (lambda p, lr: torch.optim.AdamW(p, lr=lr, amsgrad=True), "passed"),
        (lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9), "passed"),
        (torch.optim.Adagrad, "not applicable"),
    ],
)
def test_optimizer_state_follows_the_algorithm(verdict_on: Judge, optimizer: Any, status: str) -> None:
    assert verdict_on("optimizer-state-as-the-closed-form", looping(plain, optimizer=optimizer)).status == status


@pytest.mark.parametrize("method", ["lora", "full"])
def test_tied_weights_and_trained_copies_are_no_stray_copies(verdict_on: Judge, method: str) -> None:
    from pytest_ftcheck import LoRA

    lora = LoRA(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM")
    recipe = instruction_recipe(lambda: tiny_llama(tie_word_embeddings=True), lora=lora)
    assert verdict_on("no-stray-weight-copies", recipe, method).status == "passed"


def test_a_broken_tie_is_found_as_a_stray_copy(verdict_on: Judge) -> None:
    def adapt(model: nn.Module, method: Any) -> nn.Module:
        from pytest_ftcheck.training import adapt

        model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())  # type: ignore[union-attr]
        return adapt(model, method)

    recipe = instruction_recipe(lambda: tiny_llama(tie_word_embeddings=True), adapt=adapt)
    assert "1 more weight matrices" in str(verdict_on("no-stray-weight-copies", recipe))


class WithReference(nn.Module):
    """A policy and the reference that its preferences are measured against."""

    def __init__(self, shared: bool) -> None:
        super().__init__()
        self.policy = tiny_llama()
        self.reference = copy.deepcopy(self.policy)
        for policy, reference in zip(self.policy.parameters(), self.reference.parameters(), strict=True):
            reference.requires_grad_(False)
            policy.requires_grad_(policy.dim() == 1)
        if shared:
            for name, module in self.policy.named_modules():
                if isinstance(module, (nn.Linear, nn.Embedding)):
                    self.reference.get_submodule(name).weight = module.weight

    def forward(self, **batch: Any) -> Any:
        return self.policy(**batch)


@pytest.mark.parametrize(("shared", "status"), [(False, "failed"), (True, "passed")])
def test_frozen_layers_that_a_reference_model_does_not_share_are_found(
    verdict_on: Judge, shared: bool, status: str
) -> None:
    recipe = instruction_recipe(lambda: WithReference(shared), adapt=lambda model, method: model)
    found = verdict_on("no-stray-weight-copies", recipe, "full")
    assert found.status == status
    assert status == "passed" or "held twice" in str(found)


def test_each_storage_is_listed_once() -> None:
    model = tiny_llama(tie_word_embeddings=True)
    names = [held.name for held in held_by(model)]
    assert "model.embed_tokens.weight" in names
    assert "lm_head.weight" not in names


def test_a_mask_for_learned_positions_is_not_reported(verdict_on: Judge) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    from pytest_ftcheck import LoRA

    def model() -> nn.Module:
        gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=1, n_head=2, n_positions=32))
        gpt2.register_buffer("bias", torch.ones(1, 1, 32, 32, dtype=torch.bool).tril())
        return gpt2

    recipe = instruction_recipe(model, lora=LoRA(r=2, target_modules=["c_attn"]))
    assert verdict_on("no-buffer-of-context-squared", recipe).status == "not applicable"


def checkpointed(training: bool) -> Recipe:
    """A Llama with gradient checkpointing, trained in training mode or, by mistake, in evaluation mode."""

    def model() -> nn.Module:
        llama = tiny_llama(attention_dropout=0.0)
        llama.gradient_checkpointing_enable()
        llama.enable_input_require_grads()
        return llama

    def one(job: Job, batch: Any, kept: list[Any]) -> None:
        job.model.train(training)
        plain(job, batch, kept)

    return looping(one).replace(model=model)


@pytest.mark.parametrize(("training", "status"), [(True, "passed"), (False, "failed")])
def test_checkpointing_in_evaluation_mode_is_found(verdict_on: Judge, training: bool, status: str) -> None:
    found = verdict_on("checkpointing-saves-activations", checkpointed(training))
    assert found.status == status
    assert status == "passed" or "the model was in evaluation mode" in str(found)


def test_saved_bytes_are_those_of_the_linear_layer_s_input() -> None:
    model = nn.Linear(3, 5)
    from pytest_ftcheck.observers.update import ForwardPass

    inputs = torch.ones(2, 3)
    assert saved_bytes(model, ForwardPass({"input": inputs}, True, ()), checkpointing=False) == 2 * 3 * 4
    assert stack([{"a": 1}])["a"].shape == (1,)


@pytest.mark.parametrize("passes", [1, 2])
def test_two_passes_of_every_batch_are_not_reported_as_one_graph(verdict_on: Judge, passes: int) -> None:
    def several(job: Job, batch: Any, kept: list[Any]) -> None:
        losses = [job.loss(job.model, batch) for _ in range(passes)]
        (torch.stack(losses).mean() / job.accumulation).backward()

    assert verdict_on("accumulation-frees-activations", looping(several)).status == "passed"
