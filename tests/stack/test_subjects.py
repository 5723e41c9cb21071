"""The list of subjects: stable, complete, and cheap to read."""

from __future__ import annotations

import re
import subprocess
import sys

from pytest_ftcheck.stack import subjects


def test_ids_are_unique_and_in_kebab_case() -> None:
    ids = [subject.id for subject in subjects()]
    assert len(ids) == len(set(ids)) > 100
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", id) for id in ids)


def test_every_subject_has_a_claim_of_one_line() -> None:
    assert all(subject.claim and "\n" not in subject.claim for subject in subjects())


def test_listing_subjects_imports_no_library() -> None:
    code = (
        "import sys; from pytest_ftcheck.stack import subjects; assert subjects();"
        "print([name for name in ('torch', 'transformers', 'peft', 'accelerate', 'trl') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
