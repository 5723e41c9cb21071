from __future__ import annotations

from typing import Any

import pytest

from pytest_ftcheck.options import OPTIONS, Option, Settings

# Option -> a value as text, and what it means.
VALUES: dict[str, tuple[str, Any]] = {
    "device": ("cuda:1", "cuda:1"),
    "require-gpu": ("true", True),
    "steps": ("7", 7),
    "seeds": ("2", 2),
    "cache-dir": ("some/folder", "some/folder"),
    "no-cache": ("true", True),
    "executor": ("ray", "ray"),
    "cache-size": ("2GiB", 2**31),
    "cache-info": ("true", True),
    "cache-clear": ("true", True),
    "list-checks": ("true", True),
    "audit": ("stack", "stack"),
    "checks": ("labels,conduct", ("labels", "conduct")),
    "methods": ("lora, thin", ("lora", "thin")),
    "expected-failures": ("training-completes: see #12", {"training-completes": "see #12"}),
    "time-limit": ("2.5", 2.5),
    "sabotage": ("report", "report"),
    "against": ("origin/main", "origin/main"),
    "update": ("true", True),
    "update-new-only": ("true", True),
    "calibrate": ("5", 5),
    "baseline-dir": ("some/folder", "some/folder"),
    "history": ("s3://bucket/ci", "s3://bucket/ci"),
    "tolerance": ("memory.peak_bytes: 2%", {"memory.peak_bytes": "2%"}),
    "max-skips": ("0", 0),
    "min-checks": ("12", 12),
    "stale": ("error", "error"),
    "oom": ("retry", "retry"),
    "report": ("md:out/report.md", {"md": "out/report.md"}),
    "reason": ("a smaller base model", "a smaller base model"),
}
BY_NAME = {option.name: option for option in OPTIONS}
NAMES = pytest.mark.parametrize("name", BY_NAME)


@pytest.fixture
def shown(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project whose sessions print their settings and end."""
    monkeypatch.delenv("FTCHECK_CACHE_DIR", raising=False)
    pytester.makeconftest(
        """
        import pytest
        from pytest_ftcheck.options import settings

        @pytest.hookimpl(tryfirst=True)
        def pytest_cmdline_main(config):
            print("SETTINGS", settings(config))
            return 0
        """
    )
    return pytester


def settings_of(project: pytest.Pytester, *arguments: str) -> str:
    result = project.runpytest_inprocess("-s", "-p", "no:cacheprovider", *arguments)
    assert result.ret == pytest.ExitCode.OK
    return next(line for line in result.outlines if "SETTINGS" in line).partition("SETTINGS ")[2]


def expected(name: str) -> str:
    return str(Settings(**{name.replace("-", "_"): VALUES[name][1]}))


def on_command_line(name: str) -> list[str]:
    option = BY_NAME[name]
    return [option.flag] if option.ini_type == "bool" else [f"{option.flag}={VALUES[name][0]}"]


def test_the_table_of_values_has_every_option() -> None:
    assert set(VALUES) == set(BY_NAME)


@NAMES
def test_from_the_command_line(shown: pytest.Pytester, name: str) -> None:
    assert settings_of(shown, *on_command_line(name)) == expected(name)


@NAMES
def test_from_the_environment(shown: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(BY_NAME[name].variable, VALUES[name][0])
    assert settings_of(shown) == expected(name)


@NAMES
def test_from_an_ini_file(shown: pytest.Pytester, name: str) -> None:
    shown.makeini(f"[pytest]\n{BY_NAME[name].ini} = {VALUES[name][0]}")
    assert settings_of(shown) == expected(name)


@pytest.mark.skipif(pytest.version_tuple < (9,), reason="pytest 9 brought native TOML")
@NAMES
def test_from_native_toml(shown: pytest.Pytester, name: str) -> None:
    text, value = VALUES[name]
    kind = BY_NAME[name].ini_type
    literal = {"bool": "true", "int": repr(value), "string": repr(text), "linelist": repr([text])}[kind]
    shown.makepyprojecttoml(f"[tool.pytest]\n{BY_NAME[name].ini} = {literal}")
    assert settings_of(shown) == expected(name)


@NAMES
def test_from_an_ini_table_in_toml(shown: pytest.Pytester, name: str) -> None:
    shown.makepyprojecttoml(f'[tool.pytest.ini_options]\n{BY_NAME[name].ini} = "{VALUES[name][0]}"')
    assert settings_of(shown) == expected(name)


def test_an_option_of_lines_can_be_given_several_times_and_in_several_lines(shown: pytest.Pytester) -> None:
    both = {"a-check": "see #1", "another": "it says: no"}
    flag = "--ftcheck-expected-failures"
    given = settings_of(shown, f"{flag}=a-check: see #1", f"{flag}=another: it says: no")
    assert given == str(Settings(expected_failures=both))
    shown.makeini("[pytest]\nftcheck_expected_failures =\n    a-check: see #1\n    another: it says: no")
    assert settings_of(shown) == str(Settings(expected_failures=both))


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.values], ids=lambda option: option.name)
def test_a_flag_alone_means_its_first_value_and_takes_no_path_for_one(shown: pytest.Pytester, option: Option) -> None:
    shown.mkdir("folder")
    for arguments in ((option.flag,), (option.flag, "folder"), (f"{option.flag}={option.values[0]}", "folder")):
        assert settings_of(shown, *arguments) == str(Settings(**{option.name: option.values[0]}))
    assert settings_of(shown, option.flag, f"{option.flag}=off") == str(Settings())


def test_nothing_given_leaves_every_default(shown: pytest.Pytester) -> None:
    assert settings_of(shown) == str(Settings())


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
    shown: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown.makeini("[pytest]\nftcheck_steps = 3\nftcheck_require_gpu = true")
    assert "steps=3" in settings_of(shown)
    monkeypatch.setenv("FTCHECK_STEPS", "4")
    monkeypatch.setenv("FTCHECK_REQUIRE_GPU", "0")
    assert "steps=4" in settings_of(shown)
    assert "require_gpu=False" in settings_of(shown)
    assert "steps=5" in settings_of(shown, "--ftcheck-steps=5")


WRONG = [
    ("device", "tpu", "auto, cpu, cuda, cuda:N"),
    ("device", "cuda:x", "auto, cpu, cuda, cuda:N"),
    ("steps", "0", "a whole number of at least 1"),
    ("steps", "1.5", "a whole number of at least 1"),
    ("seeds", "-1", "a whole number of at least 1"),
    ("cache-dir", " ", "a folder"),
    ("max-skips", "-1", "a whole number of at least 0"),
    *(("report", text, "html, md, json, each with :PATH if you like; off") for text in ("pdf", "html:", "off:x")),
    ("min-checks", "0", "a whole number of at least 1"),
    ("executor", "slurm", "local, ray"),
    ("cache-size", "much", "a size such as 500MB or 2GiB"),
    ("checks", "a,", "names with commas between them"),
    ("time-limit", "soon", "a number of seconds greater than 0"),
    ("expected-failures", "a-check", "lines of the form 'check-id: reason'"),
    ("against", " ", "a branch, tag or commit of git; off"),
    ("against", "--force", "a branch, tag or commit of git; off"),
    ("calibrate", "2", "a whole number of at least 3"),
    ("baseline-dir", " ", "a folder"),
    ("tolerance", "memory", "lines of the form 'metric: limit'"),
    ("reason", " ", "why, in a few words"),
    ("history", " ", "a folder, or a URL such as s3://bucket/ci; off"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG)
def test_a_wrong_value_ends_the_session_with_one_line(
    shown: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, name: str, value: str, allowed: str
) -> None:
    option = BY_NAME[name]
    result = shown.runpytest_inprocess(f"{option.flag}={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.errlines if line] == [f"ERROR: {option.flag} is {value!r}; allowed: {allowed}"]
    monkeypatch.setenv(option.variable, value)
    result = shown.runpytest_inprocess()
    result.stderr.fnmatch_lines([f"ERROR: environment variable {option.variable} is {value!r}; allowed: {allowed}"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ftcheck_steps = many", "ERROR: ini option ftcheck_steps is not of its type int: *many*"),
        ("ftcheck_steps = 0", "ERROR: ini option ftcheck_steps is '0'; allowed: a whole number of at least 1"),
        ("ftcheck_require_gpu = perhaps", "ERROR: ini option ftcheck_require_gpu is not of its type bool: *perhaps*"),
        ("ftcheck_audit = full", "ERROR: ini option ftcheck_audit is 'full'; allowed: recipe, stack, off"),
        ("ftcheck_oom = twice", "ERROR: ini option ftcheck_oom is 'twice'; allowed: retry, off"),
        ("ftcheck_device = tpu", "ERROR: ini option ftcheck_device is 'tpu'; allowed: auto, cpu, cuda, cuda:N"),
    ],
)
def test_a_wrong_value_in_a_file_names_the_option(shown: pytest.Pytester, line: str, message: str) -> None:
    shown.makeini(f"[pytest]\n{line}")
    result = shown.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_a_promised_gpu_and_the_cpu_exclude_each_other(shown: pytest.Pytester) -> None:
    result = shown.runpytest_inprocess("--ftcheck-require-gpu", "--ftcheck-device=cpu")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --ftcheck-require-gpu with --ftcheck-device=cpu: choose one of them"])


@pytest.mark.parametrize("flag", ["--ftcheck-update", "--ftcheck-update-new-only", "--ftcheck-calibrate=3"])
def test_nothing_is_accepted_from_a_recipe_that_is_broken_on_purpose(shown: pytest.Pytester, flag: str) -> None:
    result = shown.runpytest_inprocess("--ftcheck-sabotage", flag)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    name = flag.partition("=")[0]
    result.stderr.fnmatch_lines([f"ERROR: --ftcheck-sabotage with {name}: choose one of them"])


def test_help_lists_every_option_and_ini_twin(pytester: pytest.Pytester) -> None:
    text = pytester.runpytest_inprocess("--help").stdout.str()
    for option in OPTIONS:
        assert option.flag in text
        assert option.ini in text
