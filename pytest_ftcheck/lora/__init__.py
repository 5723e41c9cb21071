"""The mathematics of LoRA as properties that any implementation can be held to. Needs ``pytest-ftcheck[properties]``.

The names are imported when they are first used: hypothesis loads this package whenever it is imported itself.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapter import Adapter
    from .adapters.peft import PeftAdapter
    from .state import AdapterState
    from .strategies.cases import adapter_states, dtypes
    from .strategies.configs import lora_configs
    from .suite import check_lora, lora_properties

_HOMES = {
    "Adapter": "adapter",
    "AdapterState": "state",
    "PeftAdapter": "adapters.peft",
    "adapter_states": "strategies.cases",
    "check_lora": "suite",
    "dtypes": "strategies.cases",
    "lora_configs": "strategies.configs",
    "lora_properties": "suite",
}

__all__ = [
    "Adapter",
    "AdapterState",
    "PeftAdapter",
    "adapter_states",
    "check_lora",
    "dtypes",
    "lora_configs",
    "lora_properties",
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
