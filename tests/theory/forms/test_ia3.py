"""(IA)³ trains one factor for each output, or for each input of a feed-forward, as PEFT builds it."""

from __future__ import annotations

from typing import Any

import pytest
from peft import IA3Config
from theory.built import Alone, assert_form_is_what_peft_builds, built, form_of, told_of
from torch import nn
from transformers.pytorch_utils import Conv1D

from pytest_ftcheck.errors import RecipeError
from pytest_ftcheck.methods import Peft
from pytest_ftcheck.theory.parameters import parameter_form

LAYERS: dict[str, tuple[nn.Module, int, int]] = {
    "Linear": (nn.Linear(6, 10), 6, 10),
    "Conv1D of transformers": (Conv1D(10, 6), 6, 10),
    "Conv2d": (nn.Conv2d(4, 6, (3, 5)), 4, 6),
    "grouped Conv2d": (nn.Conv2d(4, 6, 3, groups=2), 4, 6),
    "Conv3d": (nn.Conv3d(4, 6, 3), 4, 6),
}


def ia3(targets: Any, feedforward: Any = (), **settings: Any) -> Peft:
    settings["feedforward_modules"] = feedforward if isinstance(feedforward, str) else list(feedforward)
    return Peft(IA3Config(target_modules=targets, **settings))


@pytest.mark.parametrize(("layer", "inputs", "outputs"), LAYERS.values(), ids=LAYERS.keys())
def test_a_layer_trains_its_outputs_and_a_feedforward_its_inputs(layer: nn.Module, inputs: int, outputs: int) -> None:
    assert assert_form_is_what_peft_builds(Alone(layer), ia3(["layer"], ["layer"])).trainable == inputs
    assert assert_form_is_what_peft_builds(Alone(layer), ia3(["layer"])).trainable == outputs


NETWORKS = {
    "attention and feedforward": ia3(["c_attn", "mlp.c_proj"], ["mlp.c_proj"]),
    "PEFT's defaults": Peft(IA3Config()),
    # The last letters count, without a dot before them.
    "a feedforward by its last letters": ia3(r".*\.(c_attn|c_proj)", ["proj"]),
    "expressions": ia3(r".*\.(c_attn|c_fc)", r".*\.c_fc"),
    "all-linear": ia3("all-linear"),
    "tied head": ia3(["lm_head", "c_attn"]),
    "with a copy of the head": ia3(["c_attn"], modules_to_save=["lm_head"]),
    "one left out": ia3(["c_attn", "c_fc"], exclude_modules=["h.0.mlp.c_fc"]),
}


@pytest.mark.parametrize("method", NETWORKS.values(), ids=NETWORKS.keys())
def test_each_module_has_what_peft_gives_it(small: nn.Module, method: Peft) -> None:
    assert_form_is_what_peft_builds(small, method)


def test_the_head_of_a_classifier_is_copied(classifier: nn.Module) -> None:
    form = assert_form_is_what_peft_builds(classifier, ia3(["c_attn"], task_type="SEQ_CLS"))
    assert form.trainable == 2 * 36 + 3 * 12


def test_notes_say_which_side_is_scaled(small: nn.Module) -> None:
    notes = {m.name: m.note for m in form_of(small, NETWORKS["attention and feedforward"]).modules}
    assert notes["transformer.h.0.attn.c_attn"] == "IA3 on the 36 outputs of Conv1D 12x36"
    assert notes["transformer.h.1.mlp.c_proj"] == "IA3 on the 48 inputs of Conv1D 48x12"


def test_another_side_is_told(small: nn.Module) -> None:
    declared = ia3(["c_attn", "mlp.c_proj"], ["mlp.c_proj"])
    side = told_of(small, declared, ia3(["c_attn", "mlp.c_proj"]))
    assert side == {f"transformer.h.{i}.mlp.c_proj": "another adapter than the declared one" for i in (0, 1)}


def test_a_module_fewer_is_told(small: nn.Module) -> None:
    declared = ia3(["c_attn", "mlp.c_proj"], ["mlp.c_proj"])
    fewer = told_of(small, declared, ia3(["c_attn"]))
    assert fewer == {f"transformer.h.{i}.mlp.c_proj": "no adapter here" for i in (0, 1)}


@pytest.mark.parametrize("layer", [nn.Embedding(5, 4), nn.Conv1d(4, 4, 3)], ids=["Embedding", "Conv1d"])
def test_a_layer_that_ia3_cannot_adapt_is_named(layer: nn.Module) -> None:
    with pytest.raises(RecipeError, match=rf"IA3 cannot adapt layer, a {type(layer).__name__}; allowed: Linear, "):
        parameter_form(Alone(layer), ia3(["layer"]))
    with pytest.raises(ValueError, match="not supported"):
        built(Alone(layer), ia3(["layer"]))


def test_a_model_without_defaults_is_told_what_to_name() -> None:
    method = Peft(IA3Config(target_modules=["layer"]))
    with pytest.raises(RecipeError, match=r"IA3Config.feedforward_modules is None, .* of type None; name them"):
        parameter_form(Alone(nn.Linear(4, 4)), method)
    with pytest.raises(RecipeError, match=r"IA3Config.target_modules is None, and PEFT has no default targets"):
        parameter_form(Alone(nn.Linear(4, 4)), ia3(None))
