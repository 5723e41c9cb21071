"""Every property holds on torchtune. It goes with no recent torchao: ``tox run -e implementations``."""

from __future__ import annotations

import pytest

from pytest_ftcheck.errors import NotApplicable
from pytest_ftcheck.lora.catalogue import all_properties
from pytest_ftcheck.methods import LoRA

from .implementation import NETWORKS, assert_held

pytest.importorskip("torchtune", reason="torchtune is not installed: tox run -e implementations")

ABILITIES = {"scale", "unscale", "scaling", "delta", "unmerge", "add", "activate"}
FEATURES = {"rslora", "lora_bias", "patterns", "modules_to_save", "layers", "gaussian", "pissa", "olora"}
KINDS = {"conv1d", "embedding", "convolution", "experts"}
# What is merged is merged for good.
WITHOUT_UNMERGING = "disabled-while-merged-is-the-base"


@pytest.mark.parametrize("id", [id for id in all_properties() if id != WITHOUT_UNMERGING])
@pytest.mark.filterwarnings("ignore")
def test_every_property_holds_or_is_not_applicable(id: str) -> None:
    from pytest_ftcheck.lora import TorchtuneAdapter

    assert_held(id, TorchtuneAdapter(), ABILITIES | FEATURES | NETWORKS | KINDS, examples=25)


def test_what_was_merged_cannot_be_disabled() -> None:
    from torch import nn

    from pytest_ftcheck.lora import TorchtuneAdapter

    adapter = TorchtuneAdapter()
    wrapped = adapter.wrap(nn.Linear(2, 2), LoRA(r=1))
    adapter.merge(wrapped)
    with pytest.raises(NotApplicable, match="takes nothing out again"):
        adapter.disabled(wrapped)
