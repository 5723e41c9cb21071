"""``--ftcheck-against``: a session that compares this tree with another commit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from errands import ends_within, written
from repositories import git, repository

from pytest_ftcheck.baseline import family
from pytest_ftcheck.comparison.against import Against
from pytest_ftcheck.comparison.comparison import Comparison
from pytest_ftcheck.comparison.interleaving import compare
from pytest_ftcheck.comparison.step_time import Round

ARGUMENTS = ("--ftcheck-device=cpu", "-p", "no:cacheprovider", "-p", "no:benchmark")
MINE = """
    import os, time
    import torch
    from torch import nn

    WIDTH, PAUSE_S = 8, {pause}

    def load():
        {before}
        return nn.Linear(8, WIDTH)

    def train(job):
        optimizer = torch.optim.SGD(job.model.parameters(), lr=1e-3)
        for _ in range(job.steps):
            time.sleep(PAUSE_S)
            job.model(torch.ones(4, 8)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
"""
CONFTEST = """
    import pytest
    import mine
    from pytest_ftcheck import Full, Recipe

    @pytest.fixture(scope="session")
    def ft_recipe():
        return Recipe(name="mine", model=mine.load, train=mine.train, train_data=[{}], full=Full(lr=1e-3), lora=None)
"""
INI = "[pytest]\npythonpath = src\n"


def unindented(text: str) -> str:
    return "\n".join(line.removeprefix("    ") for line in text.splitlines())


def mine(pause: float = 0.004, before: str = "pass") -> str:
    return unindented(MINE.format(pause=pause, before=before))


@pytest.fixture
def repo(pytester: pytest.Pytester) -> Path:
    """A repository with a package under ``src`` and a recipe; the session starts in it."""
    files = {"src/mine.py": mine(), "conftest.py": unindented(CONFTEST), "pytest.ini": INI}
    return repository(pytester.path, files)


def is_clean(repo: Path) -> bool:
    return len(git(repo, "worktree", "list").splitlines()) == 1


def test_a_slower_and_larger_step_fails_and_the_verdict_is_in_the_terminal(
    repo: Path, pytester: pytest.Pytester
) -> None:
    (repo / "src" / "mine.py").write_text(mine(pause=0.012).replace("WIDTH, PAUSE_S = 8,", "WIDTH, PAUSE_S = 9,"))
    (repo / "test_own.py").write_text("def test_own(): assert False, 'test files are not run'")
    result = pytester.runpytest_inprocess("--ftcheck-against=HEAD", "-v", "--junitxml=junit.xml", *ARGUMENTS)
    result.assert_outcomes(failed=1, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "ftcheck-against::full FAILED*",
            "ftcheck-against::lora SKIPPED (not applicable: the recipe has no met*",
            "*= ftcheck: cost and step time compared =*",
            "mine: failed",
            "  full: parameters 72 -> 81",
            "  full: FLOPs of a step 1,*",
            "  full: step time slower: this tree takes *x that of HEAD (* ms against * ms, cpu)",
            "*more than 2% slower, confirmed on fresh samples",
        ]
    )
    junit = (repo / "junit.xml").read_text()
    assert "this tree takes" in junit
    assert '<property name="ftcheck.step_time_ratio" value="' in junit
    assert '<property name="ftcheck.status" value="failed"' in junit
    assert is_clean(repo)


def test_the_same_tree_has_no_change(repo: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what one round of step times cannot decide is neither a pass nor a failure."""
    monkeypatch.setattr(family, "MOST_ROUNDS", 1)
    result = pytester.runpytest_inprocess("--ftcheck-against=HEAD", "--ftcheck-methods=full", *ARGUMENTS)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["  full: step time *: this tree takes *x that of HEAD*"])
    result.stdout.no_fnmatch_line("*->*")


def test_what_cannot_be_decided_is_counted_apart(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = Round((1.0,) * 12, (0.5, 1.5) * 6)

    def compared(self: Against, recipe: str, methods: list[str]) -> dict[str, Comparison]:
        found = compare(methods, lambda method, alpha: noisy, ("HEAD", "this tree"), "cpu")
        return {method: Comparison(recipe, (), one) for method, one in found.items()}

    monkeypatch.setattr(Against, "compare", compared)
    repository(pytester.path, {"src/mine.py": mine(), "conftest.py": unindented(CONFTEST), "pytest.ini": INI})
    result = pytester.runpytest_inprocess("--ftcheck-against=HEAD", "--ftcheck-methods=full", "-v", *ARGUMENTS)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            "ftcheck-against::full UNSTABLE*",
            "mine: unstable",
            "    in round 5: unstable: cannot decide: *; 5 rounds were made",
            "*= 1 unstable in *",
        ]
    )


@pytest.mark.parametrize(
    ("committed", "told"),
    [
        ({"conftest.py": ""}, "*--ftcheck-against: HEAD: no ft_recipe is defined for *"),
        (
            {"conftest.py": "import nothing_of_this_name"},
            "*--ftcheck-against: HEAD: its process ended (4): *nothing_of_*",
        ),
        (
            {"src/mine.py": mine(before="raise OSError('no weights')")},
            "*--ftcheck-against: HEAD: Recipe.model() raised OSError: no weights",
        ),
        (
            {
                "conftest.py": unindented(CONFTEST).replace(
                    "    return Recipe(", "    raise OSError('no such file')\n    return Recipe("
                )
            },
            "*--ftcheck-against: HEAD: ft_recipe: OSError: no such file",
        ),
        (
            {"src/mine.py": mine().replace("range(job.steps)", "range(7)")},
            "*--ftcheck-against: HEAD: full: train(job) ended after 7 updates; job.steps was *",
        ),
    ],
    ids=["no-recipe", "no-conftest", "no-model", "a-recipe-that-fails", "a-loop-that-ends"],
)
def test_a_commit_that_cannot_train_is_an_error_that_says_why(
    pytester: pytest.Pytester, committed: dict[str, str], told: str
) -> None:
    files = {"src/mine.py": mine(), "conftest.py": unindented(CONFTEST), "pytest.ini": INI}
    repo = repository(pytester.path, {**files, **committed})
    for name, text in files.items():
        (repo / name).write_text(text)
    result = pytester.runpytest_inprocess("--ftcheck-against=HEAD", "--ftcheck-methods=full", *ARGUMENTS)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([told])
    assert "During handling" not in result.stdout.str()
    result.stdout.no_fnmatch_line("*contestant.py*")
    assert is_clean(repo)


def test_a_package_that_comes_from_this_tree_on_both_sides_is_refused(pytester: pytest.Pytester) -> None:
    """As an editable install does that finds it by a hook: then this tree would be compared with itself."""
    pinned = f"import sys\nsys.path.insert(0, {str(pytester.path / 'src')!r})\n" + unindented(CONFTEST)
    repo = repository(pytester.path, {"src/mine.py": mine(), "conftest.py": pinned})
    result = pytester.runpytest_inprocess("--ftcheck-against=HEAD", "--ftcheck-methods=full", *ARGUMENTS)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [f"*--ftcheck-against: HEAD: it imported mine from this tree ({repo}/src/mine.py)", "  likely cause: *"]
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--ftcheck-against=nowhere"], "*--ftcheck-against is 'nowhere'; allowed: a branch, tag or commit*"),
        (["--ftcheck-against=HEAD", "--ftcheck-audit"], "*--ftcheck-against with --ftcheck-audit: choose one of them"),
        (["--ftcheck-against=HEAD", "--ftcheck-sabotage"], "*--ftcheck-against with --ftcheck-sabotage: choose one*"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    repo: Path, pytester: pytest.Pytester, arguments: list[str], told: str
) -> None:
    result = pytester.runpytest_inprocess(*arguments, *ARGUMENTS)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([told])


def test_a_folder_outside_of_git_is_refused(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--ftcheck-against=HEAD", *ARGUMENTS)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--ftcheck-against: * is not in a git repository*"])


def test_without_a_recipe_of_ones_own_there_is_nothing_to_compare(pytester: pytest.Pytester) -> None:
    repository(pytester.path, {"conftest.py": ""})
    result = pytester.runpytest_inprocess("--ftcheck-against=HEAD", *ARGUMENTS)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*--ftcheck-against: no ft_recipe is defined for *", "*nothing was compared"])


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_both_trainings_and_remove_the_other_tree(repo: Path, number: signal.Signals) -> None:
    pids = repo / "pids"
    (repo / "src" / "mine.py").write_text(mine(before=f"open({str(pids)!r}, 'w').write(str(os.getpid()))"))
    command = [sys.executable, "-m", "pytest", "--ftcheck-against=HEAD", "--ftcheck-methods=full", *ARGUMENTS]
    session = subprocess.Popen(
        command, cwd=repo, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        training = int(written(pids, 300))
        assert not is_clean(repo)
        os.killpg(session.pid, number)
        output, _ = session.communicate(timeout=120)
    finally:
        session.kill()
    assert session.returncode == pytest.ExitCode.INTERRUPTED, output
    assert ends_within(10, training)
    assert is_clean(repo)
