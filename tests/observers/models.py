"""Models and loops that the observers' tests watch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel


class Next(nn.Module):
    """Predicts the next of eight tokens from one; returns the logits themselves."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.embed = nn.Embedding(8, 4)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(4, 8)

    def forward(self, input_ids: Tensor) -> Tensor:
        logits: Tensor = self.head(self.drop(self.embed(input_ids)))
        return logits


def tokens(rows: int = 2, length: int = 6, seed: int = 0) -> Tensor:
    return torch.randint(0, 8, (rows, length), generator=torch.Generator().manual_seed(seed))


def cross_entropy(model: nn.Module, ids: Tensor, ignore: int = -100) -> Tensor:
    """Next-token cross-entropy; labels equal to ``ignore`` do not count."""
    logits = model(input_ids=ids)[:, :-1]
    return nn.functional.cross_entropy(logits.reshape(-1, 8), ids[:, 1:].reshape(-1), ignore_index=ignore)


def loop(
    model: nn.Module,
    steps: int = 4,
    lr: float = 0.1,
    loss: Callable[[int], Tensor] | None = None,
    accumulation: int = 1,
) -> list[float]:
    """A plain loop of SGD with momentum; returns what ``backward`` was called on."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr, momentum=0.9)
    seen = []
    for step in range(steps):
        for _ in range(accumulation):
            value = loss(step) if loss else cross_entropy(model, tokens(seed=step))
            value.backward()
            seen.append(value.item())
        optimizer.step()
        optimizer.zero_grad()
    return seen


def gpt2(dropout: float = 0.1, layers: int = 4, width: int = 192, vocabulary: int = 4000) -> GPT2LMHeadModel:
    """GPT-2 in everything but size."""
    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=layers,
        n_embd=width,
        n_head=4,
        vocab_size=vocabulary,
        n_positions=64,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
    )
    return GPT2LMHeadModel(config)
