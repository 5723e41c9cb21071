"""Recipes in which the adapter is what matters, trained by the plugin's own short loop."""

from __future__ import annotations

from typing import Any

from torch import nn

from pytest_ftcheck import Job, LoRA, Peft, Recipe
from pytest_ftcheck.tasks.instruction import collate, eval_rows, tiny_llama, train_rows

from .trainers import bert_classifier, classified, gpt2


def adapter_recipe(model: Any = tiny_llama, **changes: Any) -> Recipe:
    parts: dict[str, Any] = dict(
        name="adapter",
        model=model,
        train_data=train_rows,
        eval_data=eval_rows,
        collate=collate,
        full=None,
        lora=LoRA(r=4, alpha=8, target_modules=["q_proj", "v_proj"], lr=5e-3),
        steps=20,
        batch_size=4,
        threads=1,
    )
    return Recipe(**{**parts, **changes})


def default() -> Recipe:
    return adapter_recipe()


def with_a_head() -> Recipe:
    return adapter_recipe(lora=LoRA(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"]))


def on_the_embedding() -> Recipe:
    return adapter_recipe(lora=LoRA(r=4, alpha=8, target_modules=["embed_tokens", "q_proj"]))


def on_the_embedding_by_pattern() -> Recipe:
    return adapter_recipe(lora=LoRA(r=4, alpha=8, target_modules=r".*(embed_.*|q_proj)$"))


def with_patterns() -> Recipe:
    lora = LoRA(
        r=2,
        alpha=2,
        target_modules=["q_proj"],
        rank_pattern={"q_proj": 8},
        alpha_pattern={"self_attn.q_proj": 64},
    )
    return adapter_recipe(lora=lora)


def rank_stabilized() -> Recipe:
    return adapter_recipe(lora=LoRA(r=16, alpha=16, use_rslora=True, target_modules=["q_proj"]))


def adaptive() -> Recipe:
    from peft import AdaLoraConfig

    config = AdaLoraConfig(target_r=4, init_r=6, lora_alpha=64, target_modules=["q_proj", "v_proj"], total_step=100)
    return adapter_recipe(lora=Peft(config, lr=5e-3))


def dora_on_gpt2() -> Recipe:
    lora = LoRA(r=4, alpha=8, use_dora=True, target_modules=["attn.c_proj"], options={"fan_in_fan_out": True})
    return adapter_recipe(gpt2, lora=lora)


def pissa_on_gpt2() -> Recipe:
    lora = LoRA(r=4, alpha=8, init="pissa", target_modules=["attn.c_proj"], options={"fan_in_fan_out": True})
    return adapter_recipe(gpt2, lora=lora)


def prompt_tuned_classifier() -> Recipe:
    from peft import PromptTuningConfig

    config = PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=4)
    return adapter_recipe(bert_classifier, lora=Peft(config, lr=1e-2), collate=classified)


def experts() -> nn.Module:
    import torch
    from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = Qwen2MoeConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=64,
            moe_intermediate_size=16,
            shared_expert_intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            num_experts=3,
            num_experts_per_tok=2,
        )
        return Qwen2MoeForCausalLM(config)


def on_one_layer_of_experts() -> Recipe:
    lora = LoRA(r=2, target_modules=["up_proj", "down_proj"], options={"layers_to_transform": [1]})
    return adapter_recipe(experts, lora=lora)


def _two(model: Any, method: LoRA, names: tuple[str, str], second: LoRA) -> nn.Module:
    from peft import get_peft_model

    adapted: Any = get_peft_model(model, method.to_peft(), adapter_name=names[0])
    adapted.add_adapter(names[1], second.to_peft())
    adapted.set_adapter(names[0])
    return adapted  # type: ignore[no-any-return]


def with_a_second_adapter() -> Recipe:
    """Two tasks share a base: each has an adapter and a head of its own; the first is trained."""
    lora = LoRA(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"])
    return adapter_recipe(lora=lora, adapt=lambda model, method: _two(model, method, ("default", "b"), lora))


def with_other_modules_saved() -> Recipe:
    lora = LoRA(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"])
    second = LoRA(r=4, target_modules=["q_proj"], modules_to_save=["embed_tokens"])
    return adapter_recipe(lora=lora, adapt=lambda model, method: _two(model, method, ("default", "b"), second))


def with_overlapping_names() -> Recipe:
    lora = LoRA(r=4, target_modules=["q_proj", "v_proj"])
    return adapter_recipe(lora=lora, adapt=lambda model, method: _two(model, method, ("foo", "foobar"), lora))


def combined() -> Recipe:
    """What is shipped is two adapters combined by DARE."""

    def adapt(model: nn.Module, method: LoRA) -> nn.Module:
        import torch

        adapted: Any = _two(model, method, ("a", "b"), method)
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.05)
        adapted.add_weighted_adapter(["a", "b"], [0.7, 0.3], "both", combination_type="dare_linear", density=0.5)
        adapted.set_adapter("both")
        return adapted  # type: ignore[no-any-return]

    return adapter_recipe(adapt=adapt)


def loraplus_train(job: Job) -> None:
    """LoRA+ with the rate for embeddings that its authors give."""
    import torch
    from peft.optimizers import create_loraplus_optimizer

    optimizer = create_loraplus_optimizer(
        job.model, torch.optim.AdamW, lr=job.lr, loraplus_lr_ratio=16, loraplus_lr_embedding=1e-6
    )
    job.model.train()
    draw = torch.Generator().manual_seed(job.seed)
    for _ in range(job.steps):
        picked = torch.randint(len(job.train_data), (job.batch_size,), generator=draw).tolist()
        job.loss(job.model, job.collate([job.train_data[i] for i in picked])).backward()
        optimizer.step()
        optimizer.zero_grad()


def loraplus() -> Recipe:
    return adapter_recipe(
        train=loraplus_train, lora=LoRA(r=4, alpha=8, target_modules=["embed_tokens", "q_proj"], lr=1e-3)
    )
