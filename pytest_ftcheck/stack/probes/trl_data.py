"""Probes of what TRL makes of rows: packing, truncation, masks, templates."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ..breaks import rows_cut_in_packs
from ..data import dataset
from ..loops import known, trl_trainer
from ..models import build
from ..probe import Control, probe
from ..tokenizer import WORDS
from ..updates import job

if TYPE_CHECKING:
    pass

TRL = "https://github.com/huggingface/trl/pull/"
BEGIN = 1
# Each row begins with 1, and one is longer than a pack.
LONG = [[1, 11, 12, 13, 14, 15, 16], [1, 21], [1, 31, 32], [1, 41], [1, 51, 52, 53]]
SHORT = [row for row in LONG if len(row) <= 4]


def _packed(rows: Sequence[list[int]], strategy: str, **columns: Any) -> list[dict[str, Any]]:
    from trl.data_utils import pack_dataset

    table = dataset([{"input_ids": row, **{k: v[i] for k, v in columns.items()}} for i, row in enumerate(rows)])
    return list(pack_dataset(table, 4, strategy=strategy))


def _segments(packs: Sequence[dict[str, Any]]) -> list[list[int]]:
    """The rows within packs, by the lengths (or positions) that packing notes."""
    found = []
    for pack in packs:
        lengths = pack.get("seq_lengths")
        if lengths is None and "position_ids" in pack:
            starts = [i for i, p in enumerate(pack["position_ids"]) if p == 0] + [len(pack["position_ids"])]
            lengths = [b - a for a, b in itertools.pairwise(starts)]
        if lengths is None:
            raise NotApplicable("the installed release does not note where rows begin")
        start = 0
        for length in lengths:
            found.append(pack["input_ids"][start : start + length])
            start += length
    return found


@probe(
    "packed-segments-have-heads",
    "labels",
    "every segment of a pack is the beginning of a row",
    library="trl",
    cause="the rest of a row that does not fit re-enters as a row of its own, without its context",
    cases=lambda: ("bfd", "ffd"),
    control=Control("bfd", rows_cut_in_packs),
    needs="trl>=0.17,datasets",
    links=[f"{TRL}5076"],
)
def segments_have_heads(strategy: str, seed: int) -> Iterator[str]:
    segments = _segments(_packed(LONG, strategy))
    headless = [segment for segment in segments if segment[:1] != [BEGIN]]
    if headless:
        yield f"{len(headless)} of {len(segments)} segments begin in the middle of a row, such as {headless[0]}"


@probe(
    "packing-keeps-rows-whole",
    "data",
    "rows that fit are packed whole, each once, and no pack is too long",
    library="trl",
    cause="tokens are lost, doubled or moved to another row when rows are packed",
    cases=lambda: ("bfd", "ffd", "wrapped"),
    needs="trl>=0.17,datasets",
)
def keeps_rows_whole(strategy: str, seed: int) -> Iterator[str]:
    labels = [[10 * token for token in row] for row in SHORT]
    packs = _packed(SHORT, strategy, labels=labels)
    found = sorted(token for pack in packs for token in pack["input_ids"])
    if found != sorted(token for row in SHORT for token in row):
        yield f"{len(found)} tokens are in the packs, {sum(map(len, SHORT))} in the rows"
    if strategy != "wrapped" and sorted(_segments(packs)) != sorted(SHORT):
        yield f"segments are {sorted(_segments(packs))}"
    for pack in packs:
        if pack["labels"] != [10 * token for token in pack["input_ids"]]:
            yield f"labels {pack['labels']} beside tokens {pack['input_ids']}"
        if len(pack["input_ids"]) > 4:
            yield f"a pack of {len(pack['input_ids'])} tokens where 4 are allowed"


def _batch(trainer: Any) -> dict[str, Any]:
    return dict(next(iter(trainer.get_train_dataloader())))


def _sft(rows: Sequence[Any], arguments: dict[str, Any], model: Any | None = None) -> dict[str, Any]:
    """The first batch that SFTTrainer makes of ``rows``."""
    with tempfile.TemporaryDirectory() as folder:
        made = job(model or build("llama"), rows, folder, batch_size=len(rows))
        return _batch(trl_trainer(made, "SFT", {"dataloader_drop_last": False, **arguments}))


def _taught(batch: dict[str, Any]) -> list[str]:
    """The supervised words of each row of a batch, as text, in the order of the words."""
    rows = [[WORDS[token] for token in row if token != -100] for row in batch["labels"].tolist()]
    return sorted(" ".join(row) for row in rows)


def _conversation(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in turns]


SUPERVISED: dict[str, tuple[list[dict[str, Any]], dict[str, Any], list[str]]] = {
    # case -> rows, settings, and the words that are supervised
    "conversational-completion": (
        [{"prompt": _conversation(("user", "w1 w2")), "completion": _conversation(("assistant", "w9 w10"))}],
        {}, ["w9 w10 <|end|>"],
    ),
    "conversational-completions-of-two-lengths": (
        [
            {"prompt": _conversation(("user", "w1")), "completion": _conversation(("assistant", "w9"))},
            {"prompt": _conversation(("user", "w1 w2 w3")), "completion": _conversation(("assistant", "w9 w10 w11"))},
        ],
        {}, ["w9 <|end|>", "w9 w10 w11 <|end|>"],
    ),
    "text-completion": ([{"prompt": "w1 w2", "completion": " w9 w10"}], {}, ["w9 w10 <eos>"]),
    "text-everything": (
        [{"prompt": "w1 w2", "completion": " w9 w10"}], {"completion_only_loss": False}, ["w1 w2 w9 w10 <eos>"],
    ),
    "plain-text": ([{"text": "w1 w2 w9"}], {}, ["w1 w2 w9 <eos>"]),
    "whole-conversation": (
        [{"messages": _conversation(("user", "w1"), ("assistant", "w9"), ("user", "w2"), ("assistant", "w10"))}],
        {}, ["<|user|> w1 <|end|> <|assistant|> w9 <|end|> <|user|> w2 <|end|> <|assistant|> w10 <|end|>"],
    ),
    "assistant-only": (
        [{"messages": _conversation(("user", "w1"), ("assistant", "w9"), ("user", "w2"), ("assistant", "w10"))}],
        {"assistant_only_loss": True}, ["w9 <|end|> w10 <|end|>"],
    ),
    "truncated": ([{"prompt": "w1 w2", "completion": " w9 w10 w11"}], {"max_length": 4}, ["w9 w10"]),
}  # fmt: skip


@probe(
    "sft-supervises-the-answer",
    "labels",
    "SFTTrainer supervises the words of the answer and their end, nothing before them",
    library="trl",
    cause="the mask of the prompt ends before the header of the answer, or is lost on the way to the batch",
    cases=lambda: tuple(SUPERVISED),
    needs="transformers,accelerate,datasets,trl>=0.16",
    links=[f"{TRL}4201", f"{TRL}976"],
)
def sft_supervises(case: str, seed: int) -> Iterator[str]:
    rows, settings, wanted = SUPERVISED[case]
    if "text" in case or case == "truncated":
        # Where the end is appended has moved between releases; words before it have not.
        wanted = [" ".join(word for word in text.split() if word != "<eos>") for text in wanted]
    _refuse_unknown(settings)
    found = _taught(_sft(rows, settings))
    compared = (
        found
        if "conversation" in case
        else [" ".join(w for w in t.split() if w not in ("<eos>", "<bos>")) for t in found]
    )
    compared = [text.removesuffix(" <eos>") for text in compared]
    if compared != sorted(wanted):
        yield f"supervised is {found[0]!r} instead of {sorted(wanted)[0]!r}"


def _refuse_unknown(settings: dict[str, Any]) -> None:
    """NotApplicable where the installed SFTConfig has not all of ``settings``: it would train otherwise than meant."""
    from ..probe import from_trl

    config = from_trl("SFTConfig")
    taken = known(config.__init__, settings)
    if len(taken) != len(settings):
        raise NotApplicable(f"the installed SFTConfig does not know {', '.join(settings)}")


@probe(
    "packed-sft-supervises-the-answers",
    "labels",
    "packing and padding-free batches supervise the same words as single rows",
    library="trl",
    cause="the mask of the prompt, or where rows begin, is lost when rows are packed",
    cases=lambda: ("packing bfd", "packing wrapped", "padding_free"),
    needs="trl>=0.20,transformers,accelerate,datasets",
)
def packed_sft(case: str, seed: int) -> Iterator[str]:
    rows = SUPERVISED["conversational-completions-of-two-lengths"][0] * 2
    if case == "padding_free":
        settings: dict[str, Any] = {"padding_free": True, "max_length": None}
    else:
        settings = {"packing": True, "packing_strategy": case.split()[1], "max_length": 64}
    _refuse_unknown(settings)
    batch = _sft(rows, settings)
    found = sorted(" ".join(_taught(batch)).split())
    wanted = sorted(" ".join(SUPERVISED["conversational-completions-of-two-lengths"][2] * 2).split())
    if found != wanted:
        yield f"{len(found)} words are supervised in a packed batch, {len(wanted)} in single rows"
    if "position_ids" in batch:
        positions = batch["position_ids"][0].tolist()
        starts = [i for i, position in enumerate(positions) if position == 0]
        labels = batch["labels"][0].tolist()
        if case != "packing wrapped" and any(labels[start] != -100 for start in starts):
            yield "the first token of a packed row is supervised from the row before"
        if case != "packing wrapped" and len(starts) < 4:
            yield f"positions begin {len(starts)} times in 4 packed rows"
