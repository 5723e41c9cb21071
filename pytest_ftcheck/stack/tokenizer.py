"""A tokenizer of 64 words with a chat template, made offline."""

from __future__ import annotations

from typing import Any

from .models import from_transformers

# Ids in this order; 0, 1 and 2 are padding, begin and end, as in the models' configurations.
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>", "<|user|>", "<|assistant|>", "<|end|>")
WORDS = (*SPECIAL, *(f"w{i}" for i in range(64 - len(SPECIAL))))
USER, ASSISTANT, TURN_END = (WORDS.index(word) for word in SPECIAL[4:])

CHAT = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|> ' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + ' <|end|>' }}{% endgeneration %}{{ ' ' }}"
    "{% else %}{{ m['content'] + ' <|end|> ' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|> ' }}{% endif %}"
)
# Releases before 4.42 do not know {% generation %}.
PLAIN_CHAT = CHAT.replace("{% generation %}", "").replace("{% endgeneration %}", "")


def tokenizer(pad: str = "<pad>") -> Any:
    """A fast tokenizer whose words are separated by spaces; ``pad`` may be "<eos>", as many recipes have it."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = from_transformers("PreTrainedTokenizerFast")(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<bos>", eos_token="<eos>", pad_token=pad
    )
    made.chat_template = CHAT if _knows_generation() else PLAIN_CHAT
    made.model_max_length = 64
    return made


def _knows_generation() -> bool:
    import transformers

    from .releases import at_least

    return at_least("transformers", "4.42") and hasattr(transformers, "PreTrainedTokenizerFast")
