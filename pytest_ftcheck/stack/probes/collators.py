"""Probes of transformers' data collators: what they pad, mask and supervise."""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import NotApplicable
from ..models import from_transformers
from ..probe import probe
from ..tokenizer import tokenizer

ISSUES = "https://github.com/huggingface/transformers/issues/"
PULLS = "https://github.com/huggingface/transformers/pull/"
ROWS = [{"input_ids": [1, 8, 9, 2]}, {"input_ids": [1, 7, 2]}]
IGNORED = -100


@probe(
    "collated-labels-are-the-tokens",
    "labels",
    "the language-modelling collator supervises every real token, the end included",
    library="transformers",
    cause="labels equal to the padding token are masked, and the end of sequence with them",
    cases=lambda: ("<pad>",),
    links=[f"{ISSUES}23530"],
)
def labels_are_tokens(pad: str, seed: int) -> Iterator[str]:
    collator = from_transformers("DataCollatorForLanguageModeling")(tokenizer(pad), mlm=False)
    batch = collator([dict(row) for row in ROWS])
    wanted = [row["input_ids"] + [IGNORED] * (4 - len(row["input_ids"])) for row in ROWS]
    if batch["labels"].tolist() != wanted:
        yield f"labels are {batch['labels'].tolist()} instead of {wanted}"
    if batch["attention_mask"].tolist() != [[1, 1, 1, 1], [1, 1, 1, 0]]:
        yield f"the attention mask is {batch['attention_mask'].tolist()}"


@probe(
    "masked-tokens-are-supervised",
    "labels",
    "the masking collator supervises what it hides, about 15 %, and nothing special",
    library="transformers",
    cause="labels and hidden tokens are not of the same positions, or special tokens are hidden",
)
def masked_tokens(case: str, seed: int) -> Iterator[str]:
    import torch

    words = tokenizer()
    words.add_special_tokens({"mask_token": "<unk>"})
    torch.manual_seed(seed)
    rows = [{"input_ids": [1, *range(7, 63), 2]} for _ in range(64)]
    batch = from_transformers("DataCollatorForLanguageModeling")(words, mlm=True, mlm_probability=0.15)(rows)
    original = torch.tensor([row["input_ids"] for row in rows])
    taught = batch["labels"] != IGNORED
    share = float(taught[:, 1:-1].float().mean())
    if not 0.12 <= share <= 0.18:
        yield f"{share:.1%} of the words are supervised instead of 15 %"
    if not torch.equal(batch["labels"][taught], original[taught]):
        yield "labels are not the tokens that were hidden"
    if not torch.equal(batch["input_ids"][~taught], original[~taught]):
        yield "tokens are changed that are not supervised"


@probe(
    "padded-labels-are-ignored",
    "labels",
    "the seq2seq and token collators pad labels with -100, and inputs with the padding token",
    library="transformers",
    cause="padding of the labels is supervised, or real labels are cut",
    cases=lambda: ("DataCollatorForSeq2Seq", "DataCollatorForTokenClassification"),
)
def padded_labels(kind: str, seed: int) -> Iterator[str]:
    rows = [{"input_ids": [1, 8, 9, 2], "labels": [5, 6, 7, 8]}, {"input_ids": [1, 7, 2], "labels": [4, 5, 6]}]
    batch = from_transformers(kind)(tokenizer())([dict(row) for row in rows])
    if batch["labels"].tolist() != [[5, 6, 7, 8], [4, 5, 6, IGNORED]]:
        yield f"labels are {batch['labels'].tolist()}"
    if batch["input_ids"].tolist() != [[1, 8, 9, 2], [1, 7, 2, 0]]:
        yield f"input ids are {batch['input_ids'].tolist()}"


@probe(
    "flattened-rows-stay-apart",
    "labels",
    "the flattening collator restarts positions and supervises no token across two rows",
    library="transformers",
    cause="the first token of a row is supervised from the end of the row before, or positions run on",
    needs="transformers>=4.44",
)
def flattened(case: str, seed: int) -> Iterator[str]:
    rows = [{**row, "labels": list(row["input_ids"])} for row in ROWS]
    batch = from_transformers("DataCollatorWithFlattening")()(rows)
    if batch["input_ids"].tolist() != [[1, 8, 9, 2, 1, 7, 2]]:
        yield f"input ids are {batch['input_ids'].tolist()}"
    if batch["position_ids"].tolist() != [[0, 1, 2, 3, 0, 1, 2]]:
        yield f"positions are {batch['position_ids'].tolist()}"
    if batch["labels"].tolist() != [[IGNORED, 8, 9, 2, IGNORED, 7, 2]]:
        yield f"labels are {batch['labels'].tolist()}"
    if "attention_mask" in batch and batch["attention_mask"] is None:
        raise NotApplicable("no mask")
