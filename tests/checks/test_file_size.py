"""How many numbers the file of an adapter must hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from checks.adapted_models import failed, verdicts
from checks.other_methods import OTHERS, recipe_of
from safetensors.torch import load_file, save_file

CHECK = "file-size-follows-from-the-method"


def without_a_tensor(model: Any, folder: Path) -> None:
    """What is left when a state dict is filtered by the names of one layer too few."""
    model.save_pretrained(folder)
    (file,) = folder.rglob("adapter_model.safetensors")
    tensors = load_file(file)
    del tensors[next(name for name in sorted(tensors) if "down_proj" in name)]
    save_file(tensors, file)


@pytest.mark.parametrize("method", OTHERS)
def test_every_method_is_held_to_what_it_trains(method: str) -> None:
    assert verdicts(recipe_of(method), CHECK)[CHECK].status == "passed"
    found = failed(recipe_of(method).replace(save=without_a_tensor), CHECK)[CHECK]
    assert "parameters are in the files instead of the" in found
    assert "the state dict was taken of something else" in found
