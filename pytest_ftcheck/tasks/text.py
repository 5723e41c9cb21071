"""The real-text task: a text cut into blocks, in place of transformers' removed ``TextDataset``.

With no file of the user's, the text is the sources of the running interpreter's own standard library: real text with
no download. Its ``asyncio`` is the narrow part, a little of everything else the general part.
"""

from __future__ import annotations

import functools
import os
import sysconfig
import zlib
from array import array
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import RecipeError

if TYPE_CHECKING:
    from torch import Tensor

PARTS = ("general", "narrow")
NARROW_PACKAGE = "asyncio"
LIMIT_BYTES = 1_000_000

TEST_FOLDERS = {"test", "tests", "idle_test"}
BUNDLES = {"site-packages", "dist-packages", "__pycache__", "idlelib", "ensurepip"}
# Tables and generated text repeat themselves: what is held out would have been seen in training.
TABLES = {"encodings", "pydoc_data"}
SKIPPED_FOLDERS = TEST_FOLDERS | BUNDLES | TABLES
# Generated where the interpreter was built: it differs between machines of one Python version.
SKIPPED_PREFIX = "_sysconfigdata"


@dataclass(frozen=True)
class ByteTokenizer:
    """One token a UTF-8 byte; all of them are equal, so that tasks compare by value."""

    vocab_size: ClassVar[int] = 256

    def encode(self, text: str) -> list[int]:
        """The UTF-8 bytes of ``text``, each from 0 to 255."""
        return list(text.encode("utf-8"))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids`` (a list, or a tensor [n]); what is no UTF-8, as a model may give, becomes U+FFFD."""
        # One by one: bytes() of a tensor or an array would be its memory, eight bytes an id.
        return bytes(int(token) for token in ids).decode("utf-8", errors="replace")


def standard_library_text(part: str, limit_bytes: int = LIMIT_BYTES) -> str:
    """Text of the running interpreter's standard library, the same in every process.

    ``part`` is ``"narrow"`` (the asyncio package) or ``"general"`` (all else, without tests, bundles and tables); they
    share no file. Every file gives up to the same share of ``limit_bytes``, from its middle. Raises RecipeError for
    another part, a limit below 1, or an interpreter that ships no sources.
    """
    _check_part("standard_library_text", part)
    _check_whole("standard_library_text", "limit_bytes", limit_bytes, at_least=1)
    return _library_text(sysconfig.get_paths()["stdlib"], part, limit_bytes)


@functools.lru_cache(maxsize=8)
def _library_text(root: str, part: str, limit_bytes: int) -> str:
    sources = _library_sources(Path(root), part)
    if not sources:
        raise RecipeError(
            f"TextTask.path is None and this interpreter ships no sources of its standard library in {root} "
            f"({part} part); allowed: the path of a text file"
        )
    share_bytes = -(-limit_bytes // len(sources))
    text = "\n".join(_middle(source, share_bytes) for source in sources)
    return text.encode("utf-8")[:limit_bytes].decode("utf-8", errors="ignore")


def _library_sources(root: Path, part: str) -> list[str]:
    """The sources of one part, sorted by a checksum of their names.

    Sorted by the names themselves, the end that is held out would be one subject: ``xml`` and ``zipfile`` in general,
    Windows in asyncio.
    """
    names = _source_names(root, NARROW_PACKAGE if part == "narrow" else "")
    if part == "general":
        names = [name for name in names if not name.startswith(f"{NARROW_PACKAGE}/")]
    sources = []
    for name in sorted(names, key=lambda name: (zlib.crc32(name.encode("utf-8")), name)):
        try:
            sources.append((root / name).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            continue
    return sources


def _source_names(root: Path, package: str) -> list[str]:
    """Names relative to ``root``, with forward slashes, of the ``*.py`` files under ``package``, in no fixed order."""
    names = []
    for folder, subfolders, files in os.walk(root / package):
        # Pruned, not filtered afterwards: site-packages may hold ten thousand files.
        subfolders[:] = [name for name in subfolders if name not in SKIPPED_FOLDERS]
        wanted = [name for name in files if name.endswith(".py") and not name.startswith(SKIPPED_PREFIX)]
        names += [Path(folder, name).relative_to(root).as_posix() for name in wanted]
    return names


def _middle(source: str, size_bytes: int) -> str:
    """The middle of a source, since its top is licence and imports; a character cut in two is left out."""
    data = source.encode("utf-8")
    start = max(0, (len(data) - size_bytes) // 2)
    return data[start : start + size_bytes].decode("utf-8", errors="ignore")


@dataclass(frozen=True)
class Blocks:
    """A map-style dataset: ``ids`` in consecutive blocks that do not overlap; an incomplete last one is dropped."""

    ids: Sequence[int]
    block_size: int

    def __len__(self) -> int:
        return len(self.ids) // self.block_size

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Block ``index``: ``input_ids`` and ``labels``, equal, int64 ``[block_size]``; not shifted. IndexError."""
        import torch

        start = range(len(self))[index] * self.block_size
        input_ids = torch.tensor(self.ids[start : start + self.block_size], dtype=torch.int64)
        # A copy, so that masking the labels in place leaves the input alone.
        return {"input_ids": input_ids, "labels": input_ids.clone()}


@dataclass(frozen=True)
class TextTask:
    """Next-token prediction on a text file, or on the standard library's sources.

    ``path``: a UTF-8 file, or None for the standard library, of which ``part`` is taken. ``tokenizer``: None for
    bytes, or anything hashable with ``encode(text) -> list[int]``, or a callable that returns ``{"input_ids": [...]}``.
    ``held_out``: the share of the blocks, the last ones, that is for evaluation (at least one). The text is read when
    data is asked for, tokenized once for equal tasks. Raises RecipeError for a value that cannot work.
    """

    path: str | Path | None = None
    part: str = "general"
    block_size: int = 128
    tokenizer: object | None = None
    held_out: float = 0.1

    def __post_init__(self) -> None:
        _check_part("TextTask", self.part)
        # The model shifts the labels, which leaves a block of one token with no target.
        _check_whole("TextTask", "block_size", self.block_size, at_least=2)
        if not (isinstance(self.held_out, (int, float)) and 0 < self.held_out < 1):
            raise RecipeError(f"TextTask.held_out is {self.held_out!r}; allowed: a number above 0 and below 1")
        encodes = self.tokenizer is None or hasattr(self.tokenizer, "encode") or callable(self.tokenizer)
        if not encodes or not isinstance(self.tokenizer, Hashable):
            raise RecipeError(
                f"TextTask.tokenizer is {self.tokenizer!r}; allowed: None, or a hashable object with encode(text), "
                'or a callable that returns {"input_ids": [...]}'
            )

    @property
    def vocab_size(self) -> int:
        """What the tokenizer declares (with its added tokens), or else one more than the text's largest id."""
        return _declared_vocabulary(self._tokenizer) or max(self._ids()) + 1

    def text(self) -> str:
        """The whole text, before it is cut. Raises RecipeError where the file cannot be read or is not UTF-8."""
        return standard_library_text(self.part) if self.path is None else _read(Path(self.path))

    def train_data(self) -> Blocks:
        """The blocks to train on. Raises RecipeError for a text or tokenizer that cannot give them."""
        return self._split()[0]

    def eval_data(self) -> Blocks:
        """The held-out blocks. Raises RecipeError for a text or tokenizer that cannot give them."""
        return self._split()[1]

    @property
    def _tokenizer(self) -> object:
        return ByteTokenizer() if self.tokenizer is None else self.tokenizer

    def _ids(self) -> array[int]:
        ids = _token_ids(self._tokenizer, self.text())
        count = len(ids) // self.block_size
        if count < 2:
            name = f"the standard library's {self.part} part" if self.path is None else Path(self.path).name
            needs = "one block needs" if count == 0 else "one block to train on and one held out need"
            raise RecipeError(
                f"TextTask.block_size is {self.block_size}, but {name} has {len(ids)} tokens; "
                f"{needs} {(count + 1) * self.block_size}"
            )
        return ids

    def _split(self) -> tuple[Blocks, Blocks]:
        ids = self._ids()
        count = len(ids) // self.block_size
        held_out = min(max(1, round(count * self.held_out)), count - 1)
        cut = (count - held_out) * self.block_size
        return Blocks(ids[:cut], self.block_size), Blocks(ids[cut:], self.block_size)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        problem = error.strerror
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is not UTF-8"
    raise RecipeError(f"TextTask.path is {str(path)!r} ({problem}); allowed: an existing text file in UTF-8")


# Keyed by the text and not by its path: a file that was changed is tokenized again.
@functools.lru_cache(maxsize=8)
def _token_ids(tokenizer: Any, text: str) -> array[int]:
    """All ids of ``text`` as 64-bit integers, each checked against the vocabulary that the tokenizer declares."""
    found = tokenizer.encode(text) if hasattr(tokenizer, "encode") else tokenizer(text)["input_ids"]
    try:
        ids = array("q", iter(found))  # iter: array() would take bytes for memory, not for ids
    except TypeError:
        raise RecipeError(
            f"TextTask.tokenizer gave {type(found).__name__} {str(found)[:60]!r}; allowed: a list of whole numbers"
        ) from None
    vocab_size = _declared_vocabulary(tokenizer)
    for extreme in (min(ids, default=0), max(ids, default=0)):
        if extreme < 0 or (vocab_size is not None and extreme >= vocab_size):
            allowed = f"ids below its vocab_size, {vocab_size}" if vocab_size is not None else "ids from 0"
            raise RecipeError(f"TextTask.tokenizer gave the token id {extreme}; allowed: {allowed}, none negative")
    return ids


def _declared_vocabulary(tokenizer: Any) -> int | None:
    # The length too: vocab_size of transformers' tokenizers leaves added tokens out.
    sizes = (getattr(tokenizer, "vocab_size", None), len(tokenizer) if hasattr(tokenizer, "__len__") else None)
    return max((size for size in sizes if isinstance(size, int)), default=None)


def _check_part(owner: str, part: object) -> None:
    if part not in PARTS:
        raise RecipeError(f"{owner}.part is {part!r}; allowed: {', '.join(PARTS)}")


def _check_whole(owner: str, name: str, value: object, at_least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise RecipeError(f"{owner}.{name} is {value!r}; allowed: a whole number, {at_least} or more")
