"""The mathematics of LoRA as properties that any implementation can be held to. Needs ``pytest-ftcheck[properties]``.

The names are imported when they are first used: hypothesis loads this package whenever it is imported itself.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapter import Adapter
    from .adapters.litgpt import LitgptAdapter
    from .adapters.loralib import LoralibAdapter
    from .adapters.peft import PeftAdapter
    from .adapters.torchtune import TorchtuneAdapter
    from .state import AdapterState
    from .strategies.cases import adapter_states, dtypes
    from .strategies.configs import lora_configs
    from .strategies.layers import (
        attention_layers,
        conv1d_layers,
        conv_layers,
        embeddings,
        expert_parameters,
        linear_layers,
    )
    from .strategies.networks import tiny_models
    from .suite import check_lora, lora_properties

_HOMES = {
    "Adapter": "adapter",
    "AdapterState": "state",
    "LitgptAdapter": "adapters.litgpt",
    "LoralibAdapter": "adapters.loralib",
    "PeftAdapter": "adapters.peft",
    "TorchtuneAdapter": "adapters.torchtune",
    "adapter_states": "strategies.cases",
    "attention_layers": "strategies.layers",
    "check_lora": "suite",
    "conv1d_layers": "strategies.layers",
    "conv_layers": "strategies.layers",
    "dtypes": "strategies.cases",
    "embeddings": "strategies.layers",
    "expert_parameters": "strategies.layers",
    "linear_layers": "strategies.layers",
    "lora_configs": "strategies.configs",
    "lora_properties": "suite",
    "tiny_models": "strategies.networks",
}

__all__ = [
    "Adapter",
    "AdapterState",
    "LitgptAdapter",
    "LoralibAdapter",
    "PeftAdapter",
    "TorchtuneAdapter",
    "adapter_states",
    "attention_layers",
    "check_lora",
    "conv1d_layers",
    "conv_layers",
    "dtypes",
    "embeddings",
    "expert_parameters",
    "linear_layers",
    "lora_configs",
    "lora_properties",
    "tiny_models",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        home = importlib.import_module(f".{_HOMES[name]}", __name__)
    except ModuleNotFoundError as error:
        package = error.name if error.name != "hypothesis" else "'pytest-ftcheck[properties]'"
        raise ImportError(f"pytest_ftcheck.lora.{name} needs {error.name}: pip install {package}") from error
    return getattr(home, name)


def __dir__() -> list[str]:
    return sorted(__all__)
