"""Other ways to load what was saved, and the automatic classes."""

from __future__ import annotations

from typing import Any

import pytest
from checks.adapted_models import failed, lora_recipe, tied_llama


def test_a_way_of_loading_that_loses_the_copies_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from peft import PeftModel

    right = PeftModel.load_adapter

    def forgetful(self: Any, folder: str, adapter_name: str, **kwargs: Any) -> Any:
        result = right(self, folder, adapter_name=adapter_name, **kwargs)
        if adapter_name == "loaded" and "default" in self.peft_config:
            for name, parameter in self.named_parameters():
                if "modules_to_save.loaded" in name:
                    parameter.data.zero_()
        return result

    monkeypatch.setattr(PeftModel, "load_adapter", forgetful)
    found = failed(lora_recipe(modules_to_save=["lm_head"]), "saving")
    assert list(found) == ["every-way-of-loading-agrees"]
    assert "after load_adapter() onto an adapted model" in found["every-way-of-loading-agrees"]


def test_loading_to_train_that_freezes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from peft import PeftModel

    right = PeftModel.from_pretrained.__func__

    def frozen(cls: Any, *args: Any, is_trainable: bool = False, **kwargs: Any) -> Any:
        return right(cls, *args, is_trainable=False, **kwargs)

    monkeypatch.setattr(PeftModel, "from_pretrained", classmethod(frozen))
    found = failed(lora_recipe(), "reload-trains-the-same-parameters")
    assert "8 parameters no longer train" in found["reload-trains-the-same-parameters"]


def test_a_full_model_that_the_automatic_class_loads_otherwise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForCausalLM

    right = AutoModelForCausalLM.from_pretrained.__func__

    def other_head(cls: Any, *args: Any, **kwargs: Any) -> Any:
        model = right(cls, *args, **kwargs)
        model.get_output_embeddings().weight.data.mul_(1.01)
        return model

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", classmethod(other_head))
    found = failed(lora_recipe(tied_llama), "saving", method="full")
    assert list(found) == ["reloads-by-the-auto-class"]
