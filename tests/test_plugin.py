from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from pytest_ftcheck import devices

# Few steps and seeds: what is tested here is the plugin, not the training.
QUICK = ("--ftcheck-device=cpu", "--ftcheck-steps=6", "--ftcheck-seeds=2", "-p", "no:cacheprovider")
GPU_TEST = """
    import pytest
    pytestmark = pytest.mark.gpu
    def test_trains(ft_lora):
        assert ft_lora.loss.finite
"""


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "usable_gpus", lambda: devices.Gpus((), "no GPU driver on this machine"))


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "usable_gpus", lambda: devices.Gpus((80 * 10**9, 24 * 10**9)))
    # Where torch has no CUDA it has no allocator to limit either.
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda fraction, device: None)


Plugins = tuple[str, ...]
# The modules of the package that every pytest session imports.
LIGHT = [
    *("controller", "crashes", "errors", "fixtures", "option_values", "options", "plugin", "refusals", "scratch"),
    *("session", "tally"),
]


@pytest.fixture(params=[("-p", "no:xdist", "-p", "no:benchmark"), ("-n", "2")], ids=" ".join)
def plugins(request: pytest.FixtureRequest) -> Plugins:
    """Without the plugins that we get on with, and with them and two workers."""
    arguments: Plugins = request.param
    if "-n" in arguments:
        request.getfixturevalue("with_workers")
    return arguments


def test_starting_pytest_imports_nothing_heavy_prints_nothing_and_leaves_no_file(pytester: pytest.Pytester) -> None:
    script = (
        "import sys, pytest\n"
        "code = pytest.main(['--collect-only', '-q', '-p', 'no:cacheprovider'])\n"
        "heavy = {'torch', 'transformers', 'peft', 'numpy', 'scipy', 'accelerate', 'filelock', 'platformdirs'}\n"
        "heavy |= {'hypothesis', 'safetensors', 'cloudpickle', 'fsspec', 'ruptures', 'jinja2', 'plotly', 'ray'}\n"
        "ours = sorted(name for name in sys.modules if name.startswith('pytest_ftcheck'))\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)), 'OURS', ours)"
    )
    # Only our plugin: others (hypothesis, anyio) have imports of their own.
    environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "pytest_ftcheck.plugin"}
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=pytester.path, capture_output=True, text=True, env=environment, check=True
    )
    expected = ["pytest_ftcheck", *(f"pytest_ftcheck.{name}" for name in LIGHT)]
    assert f"HEAVY [] OURS {expected}" in result.stdout
    assert "ftcheck" not in result.stdout.replace("pytest_ftcheck", "")
    assert list(pytester.path.iterdir()) == []


def test_a_session_that_trains_imports_no_ray_unless_it_is_asked_for(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(ft_lora):\n    import sys\n    assert 'ray' not in sys.modules")
    pytester.runpytest_subprocess(*QUICK, "-p", "no:xdist").assert_outcomes(passed=1)


def test_without_a_gpu_marked_tests_are_skipped_with_what_to_do(pytester: pytest.Pytester, no_gpu: None) -> None:
    pytester.makepyfile(GPU_TEST)
    result = pytester.runpytest_inprocess("-m", "gpu", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["SKIPPED [[]1] test_*: ftcheck: no GPU driver on this machine; run it on the CPU with --ftcheck-device=cpu"]
    )


def test_with_the_cpu_as_device_marked_tests_run(pytester: pytest.Pytester, no_gpu: None, plugins: Plugins) -> None:
    pytester.makepyfile(GPU_TEST)
    pytester.runpytest_inprocess("-m", "gpu", *QUICK, *plugins).assert_outcomes(passed=1)


def test_a_promised_gpu_that_is_missing_fails_the_tests(
    pytester: pytest.Pytester, no_gpu: None, plugins: Plugins
) -> None:
    pytester.makepyfile(GPU_TEST)
    result = pytester.runpytest_inprocess("-m", "gpu", "--ftcheck-require-gpu", *plugins)
    result.assert_outcomes(errors=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ftcheck: --ftcheck-require-gpu: 0 tests marked gpu were executed"])


@pytest.mark.parametrize("device", ["cuda", "cuda:3"])
def test_a_gpu_asked_for_by_name_that_is_missing_fails_the_tests(
    pytester: pytest.Pytester, no_gpu: None, device: str
) -> None:
    pytester.makepyfile(GPU_TEST)
    result = pytester.runpytest_inprocess(f"--ftcheck-device={device}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*ftcheck: --ftcheck-device={device}, but no GPU driver on this machine*"])


def test_an_unmarked_test_fails_too_where_the_promised_gpu_is_missing(pytester: pytest.Pytester, no_gpu: None) -> None:
    pytester.makepyfile("def test_trains(ft_lora): pass")
    result = pytester.runpytest_inprocess("--ftcheck-require-gpu")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*--ftcheck-require-gpu, but *"])


@pytest.mark.parametrize("arguments", [("-k", "nothing"), ("-m", "gpu and not gpu"), ("--deselect=test_it.py",)])
def test_a_promised_gpu_on_which_nothing_was_executed_fails_the_session(
    pytester: pytest.Pytester, two_gpus: None, arguments: tuple[str, ...], plugins: Plugins
) -> None:
    pytester.makepyfile(test_it=GPU_TEST)
    result = pytester.runpytest_inprocess("--ftcheck-require-gpu", *arguments, *plugins)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ftcheck: --ftcheck-require-gpu: 0 tests marked gpu were executed"])


def test_a_promised_gpu_on_which_something_was_executed_passes(
    pytester: pytest.Pytester, two_gpus: None, plugins: Plugins
) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.gpu\ndef test_it(): pass")
    if "2" not in plugins:  # workers are processes, which have no pretended GPUs
        pytester.runpytest_inprocess("--ftcheck-require-gpu", *plugins).assert_outcomes(passed=1)


def test_collecting_alone_is_no_broken_promise(pytester: pytest.Pytester, two_gpus: None) -> None:
    pytester.makepyfile(GPU_TEST)
    assert pytester.runpytest_inprocess("--ftcheck-require-gpu", "--collect-only").ret == pytest.ExitCode.OK


@pytest.mark.parametrize(
    ("marker", "outcome"),
    [
        ("gpu", "passed"),
        ("gpu(memory='24GB', count=2)", "passed"),
        ("gpu(memory='25GB', count=2)", "skipped"),
        ("gpu(memory='80GB')", "passed"),
        ("gpu(memory='81GB')", "skipped"),
        ("gpu(count=3)", "skipped"),
        ("gpu(exclusive=True)", "passed"),
    ],
)
def test_a_marker_asks_for_gpus_of_a_size(pytester: pytest.Pytester, two_gpus: None, marker: str, outcome: str) -> None:
    pytester.makepyfile(f"import pytest\n@pytest.mark.{marker}\ndef test_it(): pass")
    pytester.runpytest_inprocess().assert_outcomes(**{outcome: 1})


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("gpu(memory='much')", "gpu(memory='much'); allowed: a size such as '20GB' or '512MiB'"),
        ("gpu(memory=20)", "gpu(memory=20); allowed: a size such as '20GB' or '512MiB'"),
        ("gpu(count=0)", "gpu(count=0); allowed: a whole number of at least 1"),
        ("gpu(2)", "gpu marker has 2; allowed: memory='20GB', count=2"),
        ("gpu(memroy='20GB')", "gpu marker has memroy; allowed: memory='20GB', count=2"),
    ],
)
def test_a_marker_with_other_arguments_ends_the_session(pytester: pytest.Pytester, marker: str, message: str) -> None:
    pytester.makepyfile(test_it=f"import pytest\n@pytest.mark.{marker}\ndef test_it(): pass")
    result = pytester.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"test_it.py::test_it: {message}" in result.stderr.str() + result.stdout.str()


def test_the_marker_is_known_to_strict_markers(pytester: pytest.Pytester, no_gpu: None) -> None:
    pytester.makepyfile(GPU_TEST)
    pytester.runpytest_inprocess("--strict-markers").assert_outcomes(skipped=1)


def test_the_summary_compares_both_arms(pytester: pytest.Pytester, plugins: Plugins) -> None:
    pytester.makepyfile("def test_pair(ft_pair): assert ft_pair.paired")
    result = pytester.runpytest_inprocess(*QUICK, *plugins)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "*ftcheck: full fine-tuning and LoRA*",
            "narrow: 6 steps of 32 rows, seeds 0, 1, cpu, float32",
            "*full*LoRA r=8*",
            "*trainable *71,680*12,288*",
            "*peak memory*",
            "*loss at step 6*",
            "*LoRA r=8 against full: 82.86 % fewer trainable parameters*",
        ]
    )


def test_there_is_no_summary_without_runs(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_nothing(): pass")
    assert "ftcheck:" not in pytester.runpytest_inprocess().stdout.str()


def test_runs_are_shared_by_the_tests_of_a_session(pytester: pytest.Pytester, plugins: Plugins) -> None:
    pytester.makeconftest(
        """
        import pathlib, pytest
        from pytest_ftcheck.tasks import NARROW, planted_recipe
        from pytest_ftcheck.training import train

        def counting(job):
            with open("trained.log", "a") as log:
                log.write(f"{job.lr} {job.seed} {job.steps}\\n")
            train(job)

        @pytest.fixture(scope="session")
        def ft_recipe():
            return planted_recipe(NARROW, "narrow").replace(train=counting)
        """
    )
    for name in ("test_one", "test_two"):
        pytester.makepyfile(**{name: "def test_a(ft_pair): pass\ndef test_b(ft_lora): pass\ndef test_c(ft_full): pass"})
    pytester.runpytest_inprocess(*QUICK, *plugins, "--ftcheck-no-cache").assert_outcomes(passed=6)
    trained = (pytester.path / "trained.log").read_text().split("\n")
    assert sorted(line for line in trained if line.endswith(" 6")) == [
        "0.001 0 6",
        "0.001 1 6",
        "0.01 0 6",
        "0.01 1 6",
    ]


def test_a_second_session_trains_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_pair(ft_pair): pass")
    cache = f"--ftcheck-cache-dir={pytester.path / 'cache'}"
    for _ in range(2):
        pytester.runpytest_inprocess(*QUICK, cache).assert_outcomes(passed=1)
        stored = {path.name: path.stat().st_mtime_ns for path in (pytester.path / "cache").rglob("*.json")}
        assert len(stored) == 4
    pytester.runpytest_inprocess(*QUICK, cache).assert_outcomes(passed=1)
    assert {path.name: path.stat().st_mtime_ns for path in (pytester.path / "cache").rglob("*.json")} == stored


def test_a_folder_that_overrides_the_recipe_gets_its_own_runs(pytester: pytest.Pytester) -> None:
    for folder, task in (("a", "GENERAL"), ("b", "NARROW")):
        path = pytester.mkdir(folder)
        (path / "conftest.py").write_text(
            "import pytest\n"
            f"from pytest_ftcheck.tasks import {task}, planted_recipe\n"
            "@pytest.fixture(scope='session')\n"
            f"def ft_recipe(): return planted_recipe({task}, '{folder}')\n"
        )
        (path / f"test_{folder}.py").write_text(f"def test_it(ft_full): assert ft_full.recipe == '{folder}'\n")
    pytester.runpytest_inprocess(*QUICK).assert_outcomes(passed=2)


FAILURES = {
    "count": (
        "def test_it(ft_lora): assert ft_lora.parameters.trainable == 6144",
        [
            "*assert 12,288 == 6,144 (trainable parameters)",
            "*6,144 would be r=4 on the same modules (declared: r=8)",
        ],
    ),
    "ratio": (
        "def test_it(ft_pair): assert ft_pair.memory_ratio('static') > 5",
        ["*assert 2.373 > 5 (static memory of full over LoRA)", "*full: peak *weights *gradients *optimizer *"],
    ),
    "order": (
        "def test_it(ft_pair): assert ft_pair.loss_order(at=6).winner == 'full'",
        ["*'lora' == 'full': at step 6 LoRA leads by *", "*full *█* -> *Full(lr=0.001)", "*LoRA *█* -> *"],
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_plain_assert_explains_itself(pytester: pytest.Pytester, name: str) -> None:
    test, lines = FAILURES[name]
    pytester.makepyfile(test)
    result = pytester.runpytest_inprocess(*QUICK, "--ftcheck-seeds=3")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(lines)


@pytest.mark.parametrize("fixture", ["ft_full", "ft_pair"])
def test_a_training_that_fails_is_told_in_one_piece(pytester: pytest.Pytester, fixture: str, plugins: Plugins) -> None:
    pytester.makepyfile(
        f"""
        import pytest
        from pytest_ftcheck.tasks import NARROW, planted_recipe

        def stops(job):
            raise RuntimeError("no more")

        @pytest.fixture(scope="session")
        def ft_recipe():
            return planted_recipe(NARROW, "narrow").replace(train=stops)

        def test_it({fixture}): pass
        """
    )
    result = pytester.runpytest_inprocess(*QUICK, *plugins)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["ftcheck: full: train(job) raised RuntimeError: no more after 0 of 6 updates*", "  at *.py:* in stops"]
    )
    assert "runner.py" not in result.stdout.str()


def test_an_error_of_a_run_that_a_test_asks_for_itself_shows_the_tests_line_alone(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from pytest_ftcheck import LoRA
        from pytest_ftcheck.tasks import NARROW, planted_recipe

        @pytest.fixture(scope="session")
        def ft_recipe():
            return planted_recipe(NARROW, "narrow").replace(lora=LoRA(target_modules=["q_proj"]))

        @pytest.mark.parametrize("time", ["first", "second"])
        def test_it(ft_run, time): ft_run("lora")
        """
    )
    result = pytester.runpytest_inprocess(*QUICK)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["E   *RecipeError: LoRA.target_modules names no module of this model: 'q_proj' *"])
    for module in ("runner.py", "factory.py", "execution.py"):
        assert module not in result.stdout.str()


def test_a_recipe_of_another_type_is_refused(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        @pytest.fixture(scope="session")
        def ft_recipe(): return {"steps": 3}
        def test_it(ft_run): pass
        """
    )
    result = pytester.runpytest_inprocess()
    result.stdout.fnmatch_lines(["ftcheck: ft_recipe returned dict; allowed: a Recipe"])


def test_a_run_can_be_asked_for_by_name_seed_and_steps(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from pytest_ftcheck import LoRA
        from pytest_ftcheck.errors import RecipeError
        from pytest_ftcheck.tasks import NARROW, planted_recipe

        @pytest.fixture(scope="session")
        def ft_recipe():
            return planted_recipe(NARROW, "narrow").replace(methods={"thin": LoRA(r=1, target_modules=["c_fc"])})

        def test_named(ft_run):
            run = ft_run("thin", seed=3, steps=4)
            assert (run.method, run.seed, run.steps) == ("thin", 3, 4)
            assert run.parameters.trainable == 2 * (64 + 128)

        def test_unknown(ft_run):
            with pytest.raises(RecipeError, match="no method 'fat' in the recipe; allowed: full, lora, thin"):
                ft_run("fat")

        @pytest.mark.parametrize("wrong", [{"seed": -1}, {"steps": 0}, {"steps": 2.5}])
        def test_wrong(ft_run, wrong):
            with pytest.raises(RecipeError, match="allowed: a whole number of at least"):
                ft_run("full", **wrong)
        """
    )
    pytester.runpytest_inprocess(*QUICK).assert_outcomes(passed=5)


def test_a_training_of_the_tests_own_can_be_observed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import torch
        def test_it(ft_observe):
            model = torch.nn.Linear(2, 1)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            with ft_observe(model) as seen:
                model(torch.ones(1, 2)).sum().backward()
                optimizer.step()
            assert seen.updates == 1
            assert all(t.moved for t in seen.parameters.tensors)
        """
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=1)


def test_a_deviation_is_in_the_summary(pytester: pytest.Pytester, plugins: Plugins) -> None:
    pytester.makepyfile(
        """
        import pytest
        from pytest_ftcheck.tasks import NARROW, planted_recipe
        from pytest_ftcheck.training import train

        def unfreezing(job):
            job.model.requires_grad_(True)
            train(job)

        @pytest.fixture(scope="session")
        def ft_recipe():
            return planted_recipe(NARROW, "narrow").replace(train=unfreezing)

        def test_it(ft_lora): pass
        """
    )
    result = pytester.runpytest_inprocess(*QUICK, *plugins)
    result.stdout.fnmatch_lines(["  LoRA r=8, seed 0: *the base is not frozen*"])


@pytest.mark.usefixtures("with_workers")
def test_a_killed_worker_leaves_nothing_that_another_would_believe(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(
        """
        import os, pytest
        from pytest_ftcheck.tasks import NARROW, planted_recipe
        from pytest_ftcheck.training import train

        def killed_once(job):
            if not os.path.exists("killed"):
                open("killed", "w").close()
                os.kill(os.getpid(), 9)
            train(job)

        @pytest.fixture(scope="session")
        def ft_recipe():
            return planted_recipe(NARROW, "narrow").replace(train=killed_once)

        def test_first(ft_lora): pass
        def test_second(ft_lora): assert ft_lora.steps == 6
        """
    )
    cache = pytester.path / "cache"
    result = pytester.runpytest_inprocess(*QUICK, "-n", "1", f"--ftcheck-cache-dir={cache}")
    result.assert_outcomes(passed=1, failed=1)
    assert len(list(cache.rglob("*.json"))) == 1


def test_auto_takes_the_gpu_where_there_is_one(two_gpus: None) -> None:
    assert devices.resolve_device("auto") == "cuda:0"
    assert devices.resolve_device("cuda:1") == "cuda:1"
    assert devices.resolve_device("cpu") == "cpu"


def test_auto_takes_the_cpu_where_there_is_none(no_gpu: None) -> None:
    assert devices.resolve_device("auto") == "cpu"
    with pytest.raises(devices.DeviceError, match=r"--ftcheck-device=cuda:0: no such GPU \(no GPU driver"):
        devices.resolve_device("cuda:0")
