"""From a configuration to a model without weights, and to a batch that such a model's loss can be taken of."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RecipeError

if TYPE_CHECKING:
    from torch import Tensor, nn

# How the name of a transformers class ends -> what its labels are: one for each token, one for each row, or a span.
LABELS = {
    "ForCausalLM": "tokens",
    "LMHeadModel": "tokens",
    "ForMaskedLM": "tokens",
    "ForConditionalGeneration": "tokens",
    "ForTokenClassification": "tokens",
    "ForSequenceClassification": "rows",
    "ForQuestionAnswering": "span",
}
IGNORED = -100
INSTEAD = "give batch=, a function (batch_size, sequence_length) -> dictionary of CPU tensors"


def model_of(source: Any, attention: str, dtype: str) -> nn.Module:
    """The model of a configuration, or of the ``config.json`` at a path, on torch's current default device.

    Raises RecipeError where there is no such configuration, or where it names a class that transformers has not.
    """
    import torch
    import transformers

    # A copy: the attention implementation and the dtype are written into it.
    config = copy.deepcopy(configuration(source))
    # Otherwise a model would be built in the dtype that its checkpoint happens to be in.
    config.dtype = getattr(torch, dtype)
    name = (getattr(config, "architectures", None) or [None])[0]
    if name is not None and not hasattr(transformers, name):
        raise RecipeError(f"model has the architecture {name!r}; allowed: a class of transformers, or give a function")
    if getattr(config, "pad_token_id", None) is None and str(name).endswith("ForSequenceClassification"):
        # Such a head on a decoder looks for the last token that is not padding.
        config.pad_token_id = 0
    kind = getattr(transformers, name) if name else _usual_class(config)
    if attention == "sdpa" and not getattr(kind, "_supports_sdpa", True):
        raise RecipeError(f"attention is 'sdpa'; allowed for {kind.__name__}: eager")
    model: nn.Module = kind._from_config(config, attn_implementation=attention)
    return model


def configuration(source: Any) -> Any:
    """``source``, where it is a configuration; the one that is on disk, where it is a path."""
    import transformers

    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if not (path.is_file() or (path / "config.json").is_file()):
            raise RecipeError(f"model is {str(source)!r}; allowed: a folder with a config.json, or such a file")
        try:
            source = transformers.AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        except (ValueError, OSError, KeyError) as error:
            why = str(error).strip().splitlines()[0]
            raise RecipeError(f"model is {str(path)!r}; allowed: a configuration of transformers ({why})") from None
    if not isinstance(source, transformers.PretrainedConfig):
        raise RecipeError(f"model is {source!r}; allowed: a PretrainedConfig, a function, or a path")
    return source


def _usual_class(config: Any) -> Any:
    """The class with which a model of this type is usually trained, where its configuration names none."""
    import transformers

    usual: Any = transformers.AutoModelForCausalLM
    if getattr(config, "is_encoder_decoder", False):
        usual = transformers.AutoModelForSeq2SeqLM
    elif not getattr(config, "is_decoder", False) and type(config) in transformers.AutoModelForMaskedLM._model_mapping:
        usual = transformers.AutoModelForMaskedLM
    if type(config) not in usual._model_mapping:
        raise RecipeError(
            f"model is a {type(config).__name__} without architectures; allowed: one that names its class, such as "
            "config.architectures = ['BertForSequenceClassification']"
        )
    return usual._model_mapping[type(config)]


def batch_for(model: nn.Module, batch_size: int, sequence_length: int, padded: bool) -> dict[str, Tensor]:
    """A batch on the CPU that ``model`` has a loss for: input_ids [batch_size, sequence_length] and labels.

    ``padded``: the last token of every row is padding, which an attention mask says. Raises RecipeError for a model
    whose batches look otherwise.
    """
    import torch

    inner: Any = getattr(model, "get_base_model", lambda: model)()
    labels = _labels_of(inner)
    _refuse_beyond_positions(inner, sequence_length)
    ids = torch.ones(batch_size, sequence_length, dtype=torch.long)
    batch = {"input_ids": ids}
    if padded:
        batch["attention_mask"] = torch.ones_like(ids).index_fill(1, torch.tensor([sequence_length - 1]), 0)
    if labels == "rows":
        kind = torch.float32 if inner.config.num_labels == 1 else torch.long
        return {**batch, "labels": torch.zeros(batch_size, dtype=kind)}
    if labels == "span":
        return {**batch, **{name: torch.zeros_like(ids[:, 0]) for name in ("start_positions", "end_positions")}}
    if padded:
        return {**batch, "labels": ids.masked_fill(batch["attention_mask"] == 0, IGNORED)}
    return {**batch, "labels": ids}


def _labels_of(model: Any) -> str:
    """What the model's labels are, judging by its class. A model that is not transformers' is taken for a language
    model.
    """
    name = type(model).__name__
    if not hasattr(model, "main_input_name"):
        return "tokens"
    if model.main_input_name != "input_ids":
        raise RecipeError(f"model is {name}, which takes {model.main_input_name}; allowed: {INSTEAD}")
    for ending, labels in LABELS.items():
        if name.endswith(ending):
            return labels
    raise RecipeError(f"model is {name}; allowed: one of *{', *'.join(LABELS)}, or {INSTEAD}")


def _refuse_beyond_positions(model: Any, sequence_length: int) -> None:
    """A fake embedding would not notice positions that it has not; rotary ones have no end."""
    from torch import nn

    limit = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if not isinstance(limit, int) or sequence_length <= limit:
        return
    # BART's and RoBERTa's kin have two more rows than positions.
    if any(isinstance(m, nn.Embedding) and limit <= m.num_embeddings <= limit + 2 for m in model.modules()):
        raise RecipeError(f"sequence_length is {sequence_length}; allowed: at most the model's {limit} positions")
