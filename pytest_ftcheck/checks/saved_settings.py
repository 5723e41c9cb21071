"""Checks of the configuration that is saved beside an adapter's weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from ..evidence.adapted import active, declared_lora
from ..evidence.checkpoint import writes_an_adapter
from ..methods import LoRA
from ..theory.differences import first_few
from .check import Finding, check
from .sabotages.saving import ALPHA_EDITED

if TYPE_CHECKING:
    from ..evidence.evidence import Evidence

# What a configuration says differently in the file on purpose.
OTHERWISE_IN_THE_FILE = {"inference_mode", "peft_version", "auto_mapping", "revision", "base_model_name_or_path"}


@check(
    "saved-configuration-matches",
    "saving",
    "the configuration beside the weights is the one that trained, and comes back as it was",
    controls=[ALPHA_EDITED],
    catches=["https://github.com/huggingface/peft/issues/1337"],
    applies="adapter",
    cost="model",
)
def saved_configuration_matches(evidence: Evidence) -> Iterator[Finding]:
    save = writes_an_adapter(evidence)
    if save.adapter_folder is None:
        raise NotApplicable("no adapter_config.json is saved")
    model: Any = save.before
    trained = config_fields(model.peft_config[active(model)])
    written = json.loads((save.adapter_folder / "adapter_config.json").read_text())
    wrong = {key: (value, written[key]) for key, value in trained.items() if _differs(key, value, written)}
    lost = [key for key, value in trained.items() if key not in written and value not in (None, [], {}, False, "")]
    name = trained.get("base_model_name_or_path")
    if name and written.get("base_model_name_or_path") != name:
        wrong["base_model_name_or_path"] = (name, written.get("base_model_name_or_path"))
    if written.get("inference_mode") is False:
        wrong["inference_mode"] = (True, False)
    if len(model.peft_config) == 1:
        wrong.update(_against_declaration(evidence, written))
    if wrong or lost:
        yield Finding(
            summary=f"{len(wrong) + len(lost)} settings in adapter_config.json are not those that trained: "
            f"{first_few([*wrong, *lost])}",
            cause="the configuration was edited or written from another one; what loads it computes something else",
            remedy="save with save_pretrained(), and never edit adapter_config.json",
            evidence=tuple(f"{key}: {found} instead of {meant}" for key, (meant, found) in list(wrong.items())[:4]),
        )


def _differs(key: str, value: Any, written: dict[str, Any]) -> bool:
    if key in OTHERWISE_IN_THE_FILE or key not in written:
        return False
    found = written[key]
    if isinstance(value, list) and isinstance(found, list):
        return sorted(map(str, value)) != sorted(map(str, found))
    return bool(found != value)


def _against_declaration(evidence: Evidence, written: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    lora = declared_lora(evidence.method)
    if lora is None or not isinstance(evidence.method, LoRA):
        return {}
    declared = {"r": lora.r, "lora_alpha": lora.alpha, "use_rslora": lora.use_rslora, "use_dora": lora.use_dora}
    return {key: (value, written[key]) for key, value in declared.items() if key in written and written[key] != value}


def config_fields(config: Any) -> dict[str, Any]:
    """The fields of a configuration as JSON would hold them."""
    import json

    held = config.to_dict() if hasattr(config, "to_dict") else dict(vars(config))
    return {key: json.loads(json.dumps(_plain(value), default=str)) for key, value in held.items()}


def _plain(value: Any) -> Any:
    """Sets as sorted lists, enumerations as their values, whatever is nested."""
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return getattr(value, "value", value)
