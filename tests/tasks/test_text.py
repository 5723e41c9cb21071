"""The real-text task: its blocks, its default text, and what it refuses."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_ftcheck.errors import RecipeError
from pytest_ftcheck.tasks.text import LIMIT_BYTES, PARTS, Blocks, ByteTokenizer, TextTask, standard_library_text


class LetterTokenizer:
    """Gives a letter's place in the alphabet, and counts its calls."""

    def __init__(self, vocab_size: int = 26) -> None:
        self.vocab_size = vocab_size
        self.calls = 0

    def encode(self, text: str) -> list[int]:
        self.calls += 1
        return [ord(letter) - ord("a") for letter in text]


@pytest.fixture
def train_txt(tmp_path: Path) -> Path:
    """A file of 100 tokens: 12 blocks of 8, and 4 tokens over."""
    path = tmp_path / "train.txt"
    path.write_text("abcdefghij" * 10)
    return path


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A standard library of our own, in which each file says its name; the interpreter's is put aside."""
    files = ["abc.py", "json/decoder.py", "zipfile.py", "asyncio/tasks.py", "asyncio/events.py"]
    skipped = ["site-packages/torch.py", "test/test_abc.py", "ctypes/test/case.py", "asyncio/tests/case.py"]
    skipped += ["__pycache__/abc.py", "idlelib/run.py", "encodings/cp037.py", "_sysconfigdata_linux.py", "notes.txt"]
    for name in files + skipped:
        path = tmp_path / "lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"<{name}>\n")
    (tmp_path / "lib" / "latin.py").write_bytes(b"# caf\xe9")
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(tmp_path / "lib")})
    return tmp_path / "lib"


def tokens(blocks: Blocks) -> list[int]:
    return [token for i in range(len(blocks)) for token in blocks[i]["input_ids"].tolist()]


def test_blocks_are_consecutive_full_and_without_the_tail(train_txt: Path) -> None:
    task = TextTask(train_txt, block_size=8)
    assert tokens(task.train_data()) + tokens(task.eval_data()) == list(train_txt.read_bytes()[:96])
    assert task.vocab_size == 256


def test_training_and_evaluation_do_not_overlap(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("".join(chr(place) for place in range(100)))  # no token occurs twice
    task = TextTask(path, block_size=8)
    assert set(tokens(task.train_data())).isdisjoint(tokens(task.eval_data()))


@pytest.mark.parametrize(("held_out", "blocks"), [(0.001, 1), (0.1, 1), (0.25, 3), (0.999, 11)])
def test_held_out_is_the_share_of_the_last_blocks_and_leaves_one_on_either_side(
    train_txt: Path, held_out: float, blocks: int
) -> None:
    task = TextTask(train_txt, block_size=8, held_out=held_out)
    assert (len(task.train_data()), len(task.eval_data())) == (12 - blocks, blocks)
    assert tokens(task.eval_data()) == list(train_txt.read_bytes()[96 - 8 * blocks : 96])


def test_a_row_is_int64_with_labels_equal_to_the_input_and_not_shifted(train_txt: Path) -> None:
    import torch

    row = TextTask(train_txt, block_size=8).train_data()[1]
    assert row["input_ids"].dtype == torch.int64
    assert row["input_ids"].tolist() == row["labels"].tolist() == list(b"ijabcdef")


def test_masking_labels_in_place_leaves_the_input_alone(train_txt: Path) -> None:
    row = TextTask(train_txt, block_size=8).train_data()[0]
    row["labels"][:] = -100
    assert bytes(row["input_ids"].tolist()) == b"abcdefgh"


def test_blocks_can_be_iterated_and_loaded_in_batches(train_txt: Path) -> None:
    from torch.utils.data import DataLoader

    blocks: Any = TextTask(train_txt, block_size=8).train_data()
    assert len(list(blocks)) == len(blocks) == 11
    assert [batch["labels"].shape for batch in DataLoader(blocks, batch_size=4)] == [(4, 8), (4, 8), (3, 8)]
    with pytest.raises(IndexError):
        blocks[11]


def test_any_text_survives_the_byte_tokenizer() -> None:
    import torch

    ids = ByteTokenizer().encode("naïve 雪\n")
    assert ByteTokenizer().decode(ids) == ByteTokenizer().decode(torch.tensor(ids)) == "naïve 雪\n"
    assert set(ids) <= set(range(ByteTokenizer.vocab_size))
    assert ByteTokenizer().decode(ids[:3]) == "na\ufffd"


def test_equal_tasks_tokenize_once(train_txt: Path) -> None:
    tokenizer = LetterTokenizer()
    for task in (TextTask(train_txt, block_size=8, tokenizer=tokenizer) for _ in range(2)):
        task.train_data()
        task.eval_data()
    assert tokenizer.calls == 1


def test_a_changed_file_is_tokenized_again(train_txt: Path) -> None:
    task = TextTask(train_txt, block_size=8)
    task.train_data()
    train_txt.write_text("z" * 100)
    assert set(tokens(task.train_data())) == {ord("z")}


def test_a_callable_that_returns_input_ids_is_a_tokenizer(train_txt: Path) -> None:
    task = TextTask(train_txt, block_size=8, tokenizer=lambda text: {"input_ids": text.encode()})
    assert tokens(task.train_data()) == tokens(TextTask(train_txt, block_size=8).train_data())
    assert task.vocab_size == ord("j") + 1


def test_added_tokens_of_a_transformers_tokenizer_belong_to_its_vocabulary(tmp_path: Path) -> None:
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"tune": 0, "<unk>": 1}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    fast: Any = transformers.PreTrainedTokenizerFast
    tokenizer = fast(tokenizer_object=words, unk_token="<unk>", additional_special_tokens=["<end>"])
    path = tmp_path / "train.txt"
    path.write_text("tune <end> " * 8)
    task = TextTask(path, block_size=4, tokenizer=tokenizer)
    assert tokens(task.train_data()) == [0, 2] * 6
    assert (tokenizer.vocab_size, task.vocab_size) == (2, 3)


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (0, "train.txt has 0 tokens; one block needs 128"),
        (57, "train.txt has 57 tokens; one block needs 128"),
        (127, "train.txt has 127 tokens; one block needs 128"),
        (255, "train.txt has 255 tokens; one block to train on and one held out need 256"),
    ],
)
def test_a_short_file_is_refused_with_its_numbers(tmp_path: Path, count: int, message: str) -> None:
    path = tmp_path / "train.txt"
    path.write_text("a" * count)
    for data in (TextTask(path).train_data, TextTask(path).eval_data):
        with pytest.raises(RecipeError, match=f"block_size is 128, but {message}$"):
            data()


def test_a_missing_file_is_refused_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"TextTask.path is .*absent.txt' \(No such file.*\); allowed: "):
        TextTask(tmp_path / "absent.txt").train_data()


def test_a_file_that_is_not_utf8_is_refused_by_its_first_bad_byte(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(b"caf\xe9 " * 100)
    with pytest.raises(RecipeError, match=r"latin.txt' \(byte 3 is not UTF-8\); allowed: "):
        TextTask(path).train_data()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("block_size", value) for value in (1, 0, -128, 128.0, True, "128")],
        *[("held_out", value) for value in (0, 1, -0.1, 1.5, float("nan"), True, "0.1", None)],
        *[("part", value) for value in ("wide", "", None)],
        *[("tokenizer", value) for value in (256, ["gpt2"])],
    ],
)
def test_a_field_that_cannot_work_is_refused_on_one_line(field: str, value: object) -> None:
    settings: dict[str, Any] = {field: value}
    with pytest.raises(RecipeError, match=rf"TextTask\.{field} is {re.escape(repr(value))}; allowed: ") as refusal:
        TextTask(**settings)
    assert str(refusal.value).splitlines() == [str(refusal.value)]


@pytest.mark.parametrize(("letters", "token"), [("abcj", 9), ("ab c", ord(" ") - ord("a"))])
def test_a_token_outside_the_declared_vocabulary_is_refused(tmp_path: Path, letters: str, token: int) -> None:
    path = tmp_path / "train.txt"
    path.write_text(letters * 10)
    with pytest.raises(RecipeError, match=f"gave the token id {token}; allowed: ids below its vocab_size, 9"):
        TextTask(path, block_size=8, tokenizer=LetterTokenizer(vocab_size=9)).train_data()


@pytest.mark.parametrize("ids", [[0.5] * 20, [[1, 2]] * 20, "words", None])
def test_a_tokenizer_that_gives_no_whole_numbers_is_refused(train_txt: Path, ids: object) -> None:
    with pytest.raises(RecipeError, match="allowed: a list of whole numbers"):
        TextTask(train_txt, block_size=8, tokenizer=lambda text: {"input_ids": ids}).train_data()


def test_the_parts_share_no_file_and_leave_out_tests_bundles_tables_and_bad_bytes(library: Path) -> None:
    assert sorted(standard_library_text("general").split()) == ["<abc.py>", "<json/decoder.py>", "<zipfile.py>"]
    assert sorted(standard_library_text("narrow").split()) == ["<asyncio/events.py>", "<asyncio/tasks.py>"]


def test_the_general_part_takes_the_same_share_of_every_file(library: Path) -> None:
    for name, letter in [("abc.py", "a"), ("json/decoder.py", "j"), ("zipfile.py", "z")]:
        (library / name).write_text(letter * 5000)
    text = standard_library_text("general", limit_bytes=300)
    assert len(text) == 300
    assert all(95 <= text.count(letter) <= 100 for letter in "ajz")


@pytest.mark.parametrize("part", PARTS)
def test_an_interpreter_without_sources_is_refused(part: str, library: Path) -> None:
    shutil.rmtree(library)
    with pytest.raises(RecipeError, match=r"TextTask\.path is None and this interpreter ships no sources"):
        TextTask(part=part).train_data()


@pytest.mark.parametrize("part", PARTS)
def test_the_default_text_is_enough_to_train_on_and_within_its_limit(part: str) -> None:
    task = TextTask(part=part)
    assert len(task.train_data()) > len(task.eval_data()) > 100
    assert len(task.text().encode()) <= LIMIT_BYTES


@pytest.mark.parametrize("limit_bytes", [0, -1, 1e6, None])
def test_a_limit_that_gives_no_text_is_refused(limit_bytes: Any) -> None:
    with pytest.raises(RecipeError, match=r"limit_bytes is .*; allowed: a whole number, 1 or more"):
        standard_library_text("general", limit_bytes)


def test_the_default_text_is_the_same_in_every_process_and_needs_no_torch() -> None:
    code = """if True:
        import hashlib, sys
        from pytest_ftcheck.tasks.text import PARTS, standard_library_text
        print([hashlib.sha256(standard_library_text(part).encode()).hexdigest() for part in PARTS])
        assert "torch" not in sys.modules
    """
    command, repository = [sys.executable, "-c", code], Path(__file__).parents[2]
    environments = [{**os.environ, "PYTHONHASHSEED": seed} for seed in ("1", "2")]
    assert len({subprocess.check_output(command, env=each, cwd=repository) for each in environments}) == 1
