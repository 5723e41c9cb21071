"""A check of the automatic classes of transformers and PEFT, which know no more than the folder."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from ..evidence.adapted import config_of, kind_of, takes_from_base
from ..evidence.checkpoint import Folder, reload, saved, write
from ..evidence.precision import precision
from .check import Finding, check
from .loading import Way, disagreement, loading_fails
from .sabotages.saving import TENSOR_LEFT_OUT

if TYPE_CHECKING:
    from torch import nn

    from ..evidence.checkpoint import Saved
    from ..evidence.evidence import Evidence

AUTO_PEFT = {
    "CAUSAL_LM": "AutoPeftModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoPeftModelForSeq2SeqLM",
    "SEQ_CLS": "AutoPeftModelForSequenceClassification",
    "TOKEN_CLS": "AutoPeftModelForTokenClassification",
    "QUESTION_ANS": "AutoPeftModelForQuestionAnswering",
    "FEATURE_EXTRACTION": "AutoPeftModelForFeatureExtraction",
}
AUTO = tuple(f"AutoModelFor{task}" for task in (
    *("CausalLM", "Seq2SeqLM", "SequenceClassification", "TokenClassification", "QuestionAnswering", "MaskedLM"),
    *("MultipleChoice", "ImageClassification", "SpeechSeq2Seq", "ImageTextToText"),
))  # fmt: skip


@check(
    "reloads-by-the-auto-class",
    "saving",
    "the automatic class, which knows only the folder, loads the same model, in one file or in several",
    controls=[TENSOR_LEFT_OUT],
    catches=[
        "https://github.com/huggingface/transformers/issues/48154",
        "https://github.com/huggingface/transformers/pull/47620",
    ],
    needs=("transformers",),
    cost="model",
)
def reloads_by_the_auto_class(evidence: Evidence) -> Iterator[Finding]:
    save, exact = saved(evidence), precision(evidence)
    expected = exact.logits(save.before)
    ways = _auto_of_full(evidence, save) if evidence.is_full else _auto_of_adapter(evidence, save)
    for called, way in ways.items():
        try:
            model = way()
        except NotApplicable:
            raise
        except Exception as error:
            # Older releases of PEFT's automatic classes want a tokenizer or a hub in the folder, and say so.
            if evidence.is_full:
                yield loading_fails(called, error)
            continue
        yield from disagreement(called, model, expected, evidence)


def _auto_of_full(evidence: Evidence, save: Saved) -> dict[str, Way]:
    auto = _auto_class(save.before)
    if not (save.path / "config.json").exists():
        raise NotApplicable("what is saved is no folder of transformers")
    ways: dict[str, Way] = {f"{auto.__name__}.from_pretrained(folder)": lambda: reload(auto, save.path, evidence)}
    if not save.by_recipe:
        size = max(p.numel() * p.element_size() for p in save.before.parameters())
        ways[f"save_pretrained(max_shard_size={size + 1024}) and {auto.__name__}"] = lambda: reload(
            auto,
            evidence.once("shards", lambda: write(copy.deepcopy(save.before), max_shard_size=size + 1024)).path,
            evidence,
        )
    return ways


def _auto_class(model: Any) -> Any:
    if not hasattr(model, "config"):
        raise NotApplicable("not a model of transformers")
    import transformers

    for name in AUTO:
        auto = getattr(transformers, name, None)
        try:
            kind = auto._model_mapping.get(type(model.config), None) if auto is not None else None
        except (AttributeError, KeyError):
            continue
        if type(model) in (kind if isinstance(kind, (list, tuple)) else (kind,)):
            return auto
    raise NotApplicable(f"no automatic class of transformers makes a {type(model).__name__}")


def _auto_of_adapter(evidence: Evidence, save: Saved) -> dict[str, Way]:
    import peft

    if save.adapter_folder is None or not hasattr(save.before, "peft_config"):
        raise NotApplicable("no adapter was saved in PEFT's own form")
    config = config_of(save.before)
    auto = getattr(peft, AUTO_PEFT.get(str(getattr(config.task_type, "value", config.task_type)), ""), None)
    base: Any = evidence.base_model()
    if auto is None or not hasattr(base, "config"):
        raise NotApplicable("the adapter has no task type, or its base is not a model of transformers")
    _auto_class(base)
    if takes_from_base(config) or kind_of(config) == "LOHA":
        raise NotApplicable("the adapter's own initialisation changes the base")
    folder = save.adapter_folder

    def by_auto_class() -> nn.Module:
        written, copied = write(base), Folder()
        shutil.copytree(folder, copied.path, dirs_exist_ok=True)
        held = json.loads((copied.path / "adapter_config.json").read_text())
        held["base_model_name_or_path"] = str(written.path)
        (copied.path / "adapter_config.json").write_text(json.dumps(held))
        return reload(auto, copied.path, evidence)

    return {f"{auto.__name__}.from_pretrained(folder)": by_auto_class}
