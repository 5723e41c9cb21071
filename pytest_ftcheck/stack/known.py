"""What the probes find in current releases and nobody has fixed yet: counted as expected failures, with the reason.

An entry that no longer fails is simply green: a library that got better must not stop anybody's bump. An entry holds
for the releases that it names and no others, so that the same defect in an older release is still found.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import NotApplicable
from .releases import require


@dataclass(frozen=True)
class Known:
    """``probe`` fails on ``cases`` under the releases of ``needs``, because of ``reason``. Of a recipe, the cases are
    checks of the catalogue.
    """

    probe: str
    cases: tuple[str, ...]
    needs: str
    reason: str


_NO_GENERATION = "disable_adapter() of a prompt on a model that cannot generate raises UnboundLocalError"
_IGNORED_ITEMS = (
    "the model's forward takes **kwargs, so the Trainer leaves the division to it, and its loss ignores"
    " num_items_in_batch: gradients are too large by the accumulation steps"
)
_PLAIN_LOSSES = tuple(
    f"{model} {shape}" for model in ("bert-classifier", "bert-masked", "t5") for shape in ("2x4", "1x8")
)
# The catalogue's checks that see the same.
_ACCUMULATION = ("loss-scale-is-a-mean", "accumulation-equals-one-large-batch")

KNOWN = (
    Known("disabled-adapter-is-the-base", ("prompt-classifier", "prefix-classifier"), "peft>=0.18", _NO_GENERATION),
    Known(
        "concatenated-adapters-are-their-weighted-sum", ("rslora",), "peft",
        "the concatenated adapter keeps use_rslora, so its scale is √r instead of 1",
    ),
    Known("trainer-accumulates-the-mean", _PLAIN_LOSSES, "transformers>=5.0", _IGNORED_ITEMS),
    Known(
        "trainer-scales-with-equal-rows", ("bert-classifier", "gpt2-classifier"), "transformers>=5.0", _IGNORED_ITEMS
    ),
    Known(
        "updates-come-where-windows-end", ("broken-off",), "accelerate>=0.20",
        "a nested loader that is left before its end stays the active one, and hides the end of the outer loader",
    ),
    Known("trainer-last-window-counts", ("t5",), "transformers>=5.0", _IGNORED_ITEMS),
    Known("recipe-trainer-bert-classifier", _ACCUMULATION, "transformers>=5.0", _IGNORED_ITEMS),
    Known("recipe-trainer-t5", (*_ACCUMULATION, "tokens-weigh-the-same"), "transformers>=5.0", _IGNORED_ITEMS),
)  # fmt: skip


def known_reason(probe: str, case: str) -> str | None:
    """Why ``probe`` is known to fail on ``case`` under the installed releases; None where it is not."""
    for known in KNOWN:
        if known.probe == probe and case in known.cases:
            try:
                require(known.needs)
            except NotApplicable:
                continue
            return known.reason
    return None
