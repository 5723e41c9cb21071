"""What rows say is to be learned, in whichever form they say it."""

from __future__ import annotations

import numpy as np
import torch

from pytest_ftcheck.evidence.declared import DeclaredRow, rows_with_tokens


def declared(row: object, of_decoder: bool = False) -> DeclaredRow:
    (found,) = rows_with_tokens([row], of_decoder)
    return found


def test_labels_and_masks_say_the_same() -> None:
    by_labels = declared({"input_ids": [1, 5, 6, 2], "labels": [-100, -100, 6, 2]})
    by_mask = declared({"input_ids": np.array([1, 5, 6, 2]), "completion_mask": [0, 0, 1, 1]})
    assert by_labels == by_mask == DeclaredRow((1, 5, 6, 2), (False, False, True, True))


def test_padding_in_the_data_is_left_out() -> None:
    row = {"input_ids": torch.tensor([1, 5, 2, 0, 0]), "attention_mask": torch.tensor([1, 1, 1, 0, 0])}
    assert declared(row) == DeclaredRow((1, 5, 2), None)


def test_labels_that_were_shifted_in_the_data_are_moved_back() -> None:
    found = declared({"input_ids": [1, 5, 6], "labels": [-100, 6, 2]})
    assert found == DeclaredRow((1, 5, 6, 2), (False, False, True, True))


def test_a_decoder_has_the_labels_for_its_sequence() -> None:
    assert declared({"input_ids": [8, 9], "labels": [5, 2, -100]}, True) == DeclaredRow((-1, 5, 2), (False, True, True))


def test_texts_and_other_rows_say_nothing() -> None:
    assert rows_with_tokens([{"text": "a"}, (1, 2), None, {"input_ids": [[1, 2]]}]) == []
    assert rows_with_tokens(None) == []
