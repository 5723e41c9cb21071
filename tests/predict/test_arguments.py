"""The command line: what its options mean, and what is said of those that cannot be."""

from __future__ import annotations

import pytest

from pytest_ftcheck import Full, LoRA
from pytest_ftcheck.predict.arguments import gpu_of, methods_of, parsed, workload_of
from pytest_ftcheck.predict.gpu import GPUS
from pytest_ftcheck.predict.workload import Workload


def workload(*arguments: str, positions: int | None = 8192) -> Workload:
    return workload_of(parsed(["--model", "config.json", *arguments]), positions)


def test_the_defaults_are_a_row_of_2048_tokens_in_bfloat16_with_lora_on_all_linear_layers() -> None:
    assert workload() == Workload(
        "config.json",
        method=LoRA(r=16, alpha=16, target_modules="all-linear"),
        batch_size=1,
        sequence_length=2048,
        dtype="bfloat16",
        optimizer="adamw-foreach",
    )


def test_every_option_of_a_step_arrives() -> None:
    given = (
        "--method=lora --rank=4 --alpha=8 --target-modules=q_proj,v_proj --lora-dropout=0.1 --dora --batch-size=3 "
        "--sequence-length=77 --padded --accumulation=5 --dtype=float32 --autocast=bfloat16 --optimizer=sgd-fused "
        "--attention=eager --gradient-checkpointing --no-autocast-adapter-dtype"
    )
    assert workload(*given.split()) == Workload(
        "config.json",
        method=LoRA(r=4, alpha=8, target_modules=["q_proj", "v_proj"], dropout=0.1, use_dora=True),
        batch_size=3,
        sequence_length=77,
        padded=True,
        accumulation=5,
        dtype="float32",
        autocast="bfloat16",
        optimizer="sgd-fused",
        attention="eager",
        gradient_checkpointing=True,
        autocast_adapter_dtype=False,
    )


def test_full_fine_tuning_is_compared_with_the_adapter_that_was_described() -> None:
    options = parsed(["--model", "config.json", "--method", "full", "--rank", "4"])
    full, lora = methods_of(options)
    assert workload_of(options, None).method == full == Full()
    assert lora.r == 4


@pytest.mark.parametrize(("positions", "tokens"), [(1024, 1024), (4096, 2048), (None, 2048)])
def test_a_row_is_no_longer_than_the_model_takes(positions: int | None, tokens: int) -> None:
    assert workload(positions=positions).sequence_length == tokens
    # A length that was asked for is not silently another.
    assert workload("--sequence-length=3000", positions=positions).sequence_length == 3000


def test_a_gpu_without_bfloat16_gets_float16() -> None:
    assert workload("--gpu=t4").dtype == "float16"


@pytest.mark.parametrize(("text", "size"), [("40GB", 40 * 10**9), ("16 GiB", 16 * 2**30)])
def test_a_gpu_may_have_another_memory(text: str, size: int) -> None:
    gpu = gpu_of(parsed(["--model", "config.json", "--gpu", "a100", "--gpu-memory", text]))
    assert gpu.memory_bytes == size
    assert gpu.capability == GPUS["a100"].capability


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("--batch-size", "0", "a whole number of at least 1"),
        ("--batch-size", "two", "a whole number of at least 1"),
        ("--rank", "1.5", "a whole number of at least 1"),
        ("--sequence-length", "nan", "a whole number of at least 1"),
        ("--alpha", "-1", "a number above 0"),
        ("--alpha", "inf", "a number above 0"),
        ("--time-limit", "0", "a number above 0"),
        ("--lora-dropout", "1", "a number from 0 up to, not including, 1"),
        ("--gpu-memory", "40", "a size such as 40GB"),
        ("--gpu-memory", "0GB", "a size such as 40GB"),
        ("--gpu", "v100", "h100"),
        ("--dtype", "fp8", "bfloat16"),
        ("--optimizer", "adam", "adamw-fused"),
        ("--attention", "flash", "eager"),
        ("--autocast", "float32", "bfloat16"),
        ("--method", "qlora", "lora"),
    ],
)
def test_a_value_that_cannot_be_is_refused_in_a_line_with_what_is_allowed(
    option: str, value: str, allowed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        parsed(["--model", "config.json", option, value])
    said = capsys.readouterr()
    assert exit_.value.code == 2
    assert not said.out
    assert len(said.err.splitlines()) == 1
    assert all(part in said.err for part in (option, repr(value), allowed))


@pytest.mark.parametrize("arguments", [[], ["--model"], ["--model", "config.json", "--batch", "3"]])
def test_options_that_are_missing_incomplete_or_abbreviated_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parsed(arguments)
    assert exit_.value.code == 2


def test_help_says_what_is_not_modelled(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parsed(["--help"])
    assert not exit_.value.code
    said = " ".join(capsys.readouterr().out.split())
    for part in ("FSDP", "ZeRO", "torch.compile", "bitsandbytes", "Not yet validated on a GPU"):
        assert part in said
