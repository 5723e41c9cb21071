"""Checkpoints of the reference loop: everything that a training must find again to go on as if nothing had happened.

Tensors are in safetensors and all else in JSON; nothing is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

PARAMETERS, OPTIMIZER, STATE = "parameters.safetensors", "optimizer.safetensors", "state.json"
# What is shipped, beside what is needed to go on.
MODEL = "model"


def save(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    update: int,
) -> None:
    """Write the state after ``update`` to ``folder``, with the model as its library saves it, where it has a way.

    The position in the data is ``update`` itself: the rows of every update follow from the seed.
    """
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    trainable = {name: p.detach().contiguous() for name, p in model.named_parameters() if p.requires_grad}
    save_file(trainable, folder / PARAMETERS)
    optimizer_state = optimizer.state_dict()
    tensors = {f"{i}.{key}": value for i, entry in optimizer_state["state"].items() for key, value in entry.items()}
    save_file({**tensors, "generator": torch.get_rng_state()}, folder / OPTIMIZER)
    # A schedule made of functions shows None for each of them; they are made anew.
    rest = {"update": update, "groups": optimizer_state["param_groups"], "schedule": schedule.state_dict()}
    (folder / STATE).write_text(json.dumps(rest))
    if callable(getattr(model, "save_pretrained", None)):
        write: Any = model.save_pretrained
        write(folder / MODEL)


def load(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> int:
    """Put everything back into the state that ``save`` wrote, torch's generator included; the update it was after."""
    import torch
    from safetensors.torch import load_file

    trained = load_file(folder / PARAMETERS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in trained:
                parameter.copy_(trained[name])
    tensors = load_file(folder / OPTIMIZER)
    generator = tensors.pop("generator")
    rest = json.loads((folder / STATE).read_text())
    optimizer.load_state_dict({"state": _by_parameter(tensors), "param_groups": rest["groups"]})
    schedule.load_state_dict(rest["schedule"])
    torch.set_rng_state(generator)
    return int(rest["update"])


def _by_parameter(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """{"3.exp_avg": tensor} as {3: {"exp_avg": tensor}}: how an optimizer takes its state."""
    found: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        found.setdefault(int(index), {})[key] = value
    return found
