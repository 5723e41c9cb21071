"""Turning off what a model draws at random while it trains, in any family of models."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..observers.events import Watcher

if TYPE_CHECKING:
    from torch import nn

# Parts of the names under which modules and configurations keep a rate: T5's dropout_rate, GPT-2's attn_pdrop, BERT's
# hidden_dropout_prob, BART's encoder_layerdrop, Mixtral's router_jitter_noise.
RATES = ("dropout", "pdrop", "layerdrop", "drop_prob", "drop_path", "drop_rate", "jitter_noise")


class WithoutDropout(Watcher):
    """Turns dropout off in whatever model trains, also in one that the training itself puts in place of the job's."""

    def attached(self, model: nn.Module) -> None:
        without_dropout(model)


def without_dropout(model: nn.Module) -> None:
    """Set every dropout of ``model`` to 0: of its modules, what functions read off theirs, and off a configuration."""
    from torch import nn

    configurations: dict[int, Any] = {}
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        for name, value in list(vars(module).items()):
            if _is_rate(name, value):
                setattr(module, name, 0.0)
        held = vars(module).get("config")
        if held is not None and hasattr(held, "__dict__"):
            # A copy for all modules that share it: the user may build the next model from the same configuration.
            module.config = configurations.setdefault(id(held), _without_rates(held))


def rates(model: nn.Module) -> Iterator[float]:
    """Every rate at which ``model`` drops something out, or adds noise, when it trains."""
    from torch import nn

    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            yield module.p
        yield from (value for name, value in vars(module).items() if _is_rate(name, value))


def _without_rates(configuration: Any) -> Any:
    changed = copy.copy(configuration)
    for name, value in list(vars(changed).items()):
        if _is_rate(name, value):
            setattr(changed, name, 0.0)
    return changed


def _is_rate(name: str, value: Any) -> bool:
    return isinstance(value, float) and any(part in name for part in RATES)
