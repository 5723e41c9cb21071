"""Every property holds on LitGPT. It goes with no recent transformers: ``tox run -e implementations``."""

from __future__ import annotations

import pytest

from pytest_ftcheck.lora.catalogue import all_properties

from .implementation import NETWORKS, assert_held

pytest.importorskip("litgpt", reason="litgpt is not installed: tox run -e implementations")

ABILITIES = {"scale", "unscale", "unmerge", "magnitude", "disabled", "add", "activate"}
FEATURES = {"rslora", "dora", "lora_bias", "patterns", "modules_to_save", "layers", "gaussian", "pissa", "olora"}
KINDS = {"conv1d", "embedding", "convolution", "experts"}


@pytest.mark.parametrize("id", all_properties())
@pytest.mark.filterwarnings("ignore")
def test_every_property_holds_or_is_not_applicable(id: str) -> None:
    from pytest_ftcheck.lora import LitgptAdapter

    assert_held(id, LitgptAdapter(), ABILITIES | FEATURES | NETWORKS | KINDS, examples=25)
