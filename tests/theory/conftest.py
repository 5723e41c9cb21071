"""Models of the theory tests: a small one to train, and GPT-2 at its real size, without weights."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel


def _small(head: Any = GPT2LMHeadModel) -> nn.Module:
    config = GPT2Config(vocab_size=17, n_positions=8, n_embd=12, n_layer=2, n_head=2, num_labels=3, pad_token_id=0)
    torch.manual_seed(0)
    return head(config)


@functools.cache
def _real() -> nn.Module:
    with torch.device("meta"):
        return GPT2LMHeadModel(GPT2Config())


@pytest.fixture
def small() -> nn.Module:
    """A GPT-2 of two blocks."""
    return _small()


@pytest.fixture
def classifier() -> nn.Module:
    """The same with a head for three classes."""
    return _small(GPT2ForSequenceClassification)


@pytest.fixture
def gpt2() -> nn.Module:
    """GPT-2 (124,439,808 parameters) on the meta device."""
    return copy.deepcopy(_real())
