from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from recipes import tiny_model, tiny_recipe
from torch import nn

from pytest_ftcheck.evidence.dropout import rates, without_dropout
from pytest_ftcheck.evidence.few import FirstRows, few_rows
from pytest_ftcheck.evidence.training import Variation, carry_out
from pytest_ftcheck.tasks.instruction import instruction_recipe


def test_few_rows_make_two_full_windows_and_a_short_batch() -> None:
    assert few_rows(list(range(100)), batch_size=4, accumulation=2) == list(range(18))
    assert few_rows(list(range(100)), batch_size=1, accumulation=1) == [0, 1, 2]
    assert few_rows(list(range(7)), batch_size=4, accumulation=2) == list(range(7))


def test_few_rows_of_a_data_set_of_datasets_keep_its_kind() -> None:
    from datasets import Dataset

    few = few_rows(Dataset.from_dict({"x": list(range(50))}), batch_size=4, accumulation=1)
    assert isinstance(few, Dataset)
    assert list(few["x"]) == list(range(10))


@pytest.mark.parametrize(
    "rows", [{"input_ids": [1] * 50}, iter(range(50)), torch.utils.data.DataLoader(list(range(50)))]
)
def test_what_is_no_sequence_of_rows_stays_as_it_is(rows: Any) -> None:
    assert few_rows(rows, batch_size=2, accumulation=1) is rows


def test_first_rows_behave_as_their_data_set_otherwise() -> None:
    class Rows(torch.utils.data.Dataset[int]):
        name = "mine"

        def __len__(self) -> int:
            return 50

        def __getitem__(self, index: int) -> int:
            return index

    few = FirstRows(Rows(), 3)
    assert (list(few), few[-1], few[:2], few.name) == ([0, 1, 2], 2, [0, 1], "mine")
    assert list(copy.deepcopy(few)) == [0, 1, 2]
    assert list(pickle.loads(pickle.dumps(FirstRows(range(9), 2)))) == [0, 1]
    with pytest.raises(IndexError):
        few[3]


def a_model_of(family: str) -> Any:
    import transformers as t

    small = dict(vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    layers = dict(encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2)
    made = {
        "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(vocab_size=16, n_embd=8, n_layer=1, n_head=2)),
        "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**small, num_key_value_heads=2, attention_dropout=0.1)),
        "bert": lambda: t.BertForSequenceClassification(t.BertConfig(**small)),
        "t5": lambda: t.T5ForConditionalGeneration(
            t.T5Config(vocab_size=16, d_model=8, d_ff=8, d_kv=4, num_layers=1, num_heads=2, decoder_start_token_id=0)
        ),
        "mixtral": lambda: t.MixtralForCausalLM(
            t.MixtralConfig(**small, num_key_value_heads=2, num_local_experts=2, router_jitter_noise=0.1)
        ),
        "bart": lambda: t.BartForConditionalGeneration(
            t.BartConfig(vocab_size=16, d_model=8, encoder_ffn_dim=8, encoder_layerdrop=0.5, **layers)
        ),
    }
    return made[family]()


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert", "t5", "mixtral", "bart"])
def test_training_mode_repeats_itself_without_dropout(family: str) -> None:
    model = a_model_of(family).train()
    assert max(rates(model)) > 0
    before = copy.deepcopy(model.config.to_dict())
    configuration = model.config
    without_dropout(model)
    ids = torch.arange(3, 9)[None]
    arguments = {"input_ids": ids, **({"labels": ids} if family in ("t5", "bart") else {})}
    assert torch.equal(model(**arguments).logits, model(**arguments).logits)
    assert max(rates(model)) == 0
    assert configuration.to_dict() == before  # which the user may build the next model from


def test_all_updates_of_a_still_training_are_made_from_the_same_parameters() -> None:
    made = carry_out(instruction_recipe(), "full", "cpu", 0, Variation(steps=3, still=True))
    first, *others = [update.before for update in made.trace.updates]
    assert all(torch.equal(first[name], other[name]) for other in others for name in first)
    assert any(not torch.equal(made.trace.updates[0].after[name], first[name]) for name in first)


def test_dropout_is_off_in_a_model_that_the_training_puts_in_place() -> None:
    class Noisy(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner, self.dropout = inner, nn.Dropout(0.5)

        def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> Any:
            return self.inner(input_ids=input_ids, labels=labels)

    def train(job: Any) -> None:
        from pytest_ftcheck.training import train as default

        job.replace_model(Noisy(job.model))
        default(job)

    made = carry_out(tiny_recipe(train=train), "full", "cpu", 0, Variation(steps=1, without_dropout=True))
    assert made.trace.model.dropout.p == 0.0  # type: ignore[union-attr]


def test_states_are_kept_only_where_checkpoints_matter() -> None:
    recipe = tiny_recipe(model=tiny_model)
    assert carry_out(recipe, "full", "cpu", 0, Variation(steps=1)).states is None
    made = carry_out(recipe, "full", "cpu", 0, Variation(steps=2, save_steps=1))
    assert made.states is not None
    assert [len(state.optimizer) for state in made.states.before] == [0, 3 * len(made.final)]
