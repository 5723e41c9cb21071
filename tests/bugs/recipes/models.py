"""Recipes in which the model is what matters: its buffers, its head, a vocabulary that was made larger."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pytest_ftcheck import Recipe
from pytest_ftcheck.tasks.instruction import VOCABULARY, tiny_llama

from .trainers import trainer_recipe


def long_llama() -> nn.Module:
    return tiny_llama(max_position_embeddings=4096)


def tied_llama() -> nn.Module:
    return tiny_llama(tie_word_embeddings=True)


def llama_with_new_tokens() -> nn.Module:
    """Six tokens of a chat template are added before training."""
    model: Any = tiny_llama()
    model.resize_token_embeddings(VOCABULARY + 6)
    return model


def bert_with_new_tokens() -> nn.Module:
    from transformers import BertConfig, BertForMaskedLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64
        )
        model = BertForMaskedLM(config)
        model.resize_token_embeddings(VOCABULARY + 6)
    return model


def long_context() -> Recipe:
    return trainer_recipe(long_llama)


def tied() -> Recipe:
    return trainer_recipe(tied_llama)


def new_tokens() -> Recipe:
    return trainer_recipe(llama_with_new_tokens)


def new_tokens_in_bert() -> Recipe:
    return trainer_recipe(bert_with_new_tokens)
