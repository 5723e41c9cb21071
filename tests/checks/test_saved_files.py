"""What is in the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from checks.adapted_models import failed, lora_recipe

from pytest_ftcheck.evidence.checkpoint import fingerprint, read_tensors


def test_a_magnitude_that_is_not_saved_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from peft import peft_model

    right = peft_model.get_peft_model_state_dict

    def without(*args: Any, **kwargs: Any) -> Any:
        return {name: t for name, t in right(*args, **kwargs).items() if "magnitude" not in name}

    monkeypatch.setattr(peft_model, "get_peft_model_state_dict", without)
    found = failed(lora_recipe(use_dora=True), "saving")
    assert "4 of 12 trained tensors are not in the files" in found["every-trained-tensor-is-saved"]
    assert "896 parameters are in the files instead of the 992" in found["file-size-follows-from-the-method"]


def test_slices_pickled_with_their_whole_storage_are_found() -> None:
    def save(model: Any, folder: Path) -> None:
        wide = {n: torch.zeros(64, *p.shape) for n, p in model.named_parameters() if p.requires_grad}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                wide[name][0] = parameter.detach()
        torch.save({name: tensor[0] for name, tensor in wide.items()}, folder / "adapter.pt")

    found = failed(lora_recipe().replace(save=save), "saving")
    assert "bytes are on disk for tensors of 3,584 bytes" in found["file-size-follows-from-the-method"]


def test_an_adapter_saved_in_half_precision_on_purpose_is_silent() -> None:
    def save(model: Any, folder: Path) -> None:
        import copy

        copy.deepcopy(model).half().save_pretrained(folder)

    assert failed(lora_recipe().replace(save=save), "every-trained-tensor-is-saved", "saved-in-one-precision") == {}


def test_pickles_of_more_than_tensors_are_not_opened(tmp_path: Path) -> None:
    from pytest_ftcheck.errors import NotApplicable

    torch.save({"model": object()}, tmp_path / "a.pt")
    with pytest.raises(NotApplicable, match=r"a\.pt is no file of tensors alone"):
        read_tensors(tmp_path)


def test_a_fingerprint_tells_bits_shapes_and_dtypes_apart() -> None:
    one = torch.arange(4.0)
    assert fingerprint(one) == fingerprint(one.clone())
    others = (one + 1, one.reshape(2, 2), one.double(), one.to(torch.bfloat16))
    assert len({fingerprint(tensor) for tensor in (one, *others)}) == 5


def test_an_embedding_that_an_expression_targets_is_saved_with_the_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    """peft#2649"""
    from peft.utils import save_and_load

    recipe = lora_recipe(target_modules=r".*(embed_tokens|q_proj)$")
    assert failed(recipe, "saving") == {}
    monkeypatch.setattr(save_and_load, "match_target_against_key", lambda target, key: False)
    found = failed(recipe, "every-trained-tensor-is-saved")["every-trained-tensor-is-saved"]
    assert "1 embeddings are adapted and not saved with the adapter" in found
