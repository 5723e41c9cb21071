"""What cannot be predicted is one clear error: the operation, the module, the place, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from predict.loops import Batch, Model, loop_recipe, predicted_with
from torch import Tensor, nn

from pytest_ftcheck import Job, LoRA
from pytest_ftcheck.errors import PredictionError, TrainingError
from pytest_ftcheck.predict import predict_recipe
from pytest_ftcheck.predict.unsupported import first_sentence, kernel_package


@torch.library.custom_op("predict_tests::twice", mutates_args=())
def twice(x: Tensor) -> Tensor:
    return x * 2


@torch.library.custom_op("predict_tests::thrice", mutates_args=())
def thrice(x: Tensor) -> Tensor:
    return x * 3


thrice.register_fake(torch.empty_like)


class ByAddress(torch.autograd.Function):
    """As functions around a Triton kernel do it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x.data_ptr()
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients


def test_a_custom_operation_without_a_fake_implementation_is_named() -> None:
    with pytest.raises(PredictionError) as caught:
        predict_recipe(loop_recipe(model=lambda: Model(twice)))
    first, advice = str(caught.value).splitlines()
    assert first.startswith("predict_tests::twice in layer, at loops.py:")
    assert "has no implementation for tensors without contents" in first
    assert "torch.library.register_fake" in advice


def test_a_custom_operation_with_one_is_predicted() -> None:
    predict_recipe(loop_recipe(model=lambda: Model(thrice)))


def test_a_kernel_that_takes_addresses_is_named() -> None:
    with pytest.raises(PredictionError, match=r"the memory of a tensor \(data_ptr\) in layer, at test_uns"):
        predict_recipe(loop_recipe(model=lambda: Model(ByAddress.apply)))


def test_a_shape_that_depends_on_activations_is_named_with_its_module() -> None:
    with pytest.raises(PredictionError, match=r"^an index by a mask \(aten::index\) in layer, at test_unsupported.py"):
        predict_recipe(loop_recipe(model=lambda: Model(lambda hidden: hidden[hidden > 0])))


class Params4bit(nn.Parameter):
    """What bitsandbytes calls its weights: two to a byte."""


def quantized() -> nn.Module:
    model = Model()
    packed = torch.zeros(32, 1, dtype=torch.uint8)
    model.layer.linear._parameters["weight"] = Params4bit(packed, requires_grad=False)
    return model


def test_quantized_weights_are_refused_by_their_class() -> None:
    with pytest.raises(PredictionError, match=r"layer.linear is kept in a format of its own \(Params4bit\)"):
        predict_recipe(loop_recipe(model=quantized, lora=LoRA(r=2, target_modules=["head"])), "lora")


MISTAKES: dict[str, tuple[Callable[[Job, Batch], Any], str]] = {
    "attribute": (lambda job, batch: job.model.decoder, "AttributeError: 'Model' object has no attribute 'decoder'"),
    "shape": (lambda job, batch: job.model.head(torch.zeros(3, 5, device="cuda")), "RuntimeError: .*reduction dim"),
    "own": (lambda job, batch: {}["labels"], "KeyError: 'labels'"),
}


@pytest.mark.parametrize(("mistake", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_of_the_users_reads_as_in_a_real_run(mistake: Callable[..., Any], message: str) -> None:
    with pytest.raises(TrainingError, match=rf"full: train\(job\) raised {message}") as caught:
        predicted_with(lambda job, batch, loss: mistake(job, batch))
    assert "fakegpu" not in str(caught.value)
    assert "test_unsupported.py" in str(caught.value)


def test_a_message_of_pages_is_cut_to_its_first_sentence() -> None:
    error = NotImplementedError("Could not run 'x' with the 'fakegpu' backend. This could be because\nCPU: registered")
    assert first_sentence(error) == "NotImplementedError: Could not run 'x' with the 'cuda' backend"
    assert first_sentence(KeyError()) == "KeyError"


def test_a_package_with_kernels_of_its_own_is_found_in_the_traceback(tmp_path: Path) -> None:
    file = tmp_path / "flash_attn" / "interface.py"
    file.parent.mkdir()
    file.write_text("raise RuntimeError('q must be on CUDA')\n")
    with pytest.raises(RuntimeError) as caught:
        exec(compile(file.read_text(), file, "exec"))
    assert kernel_package(caught.value) == "flash_attn"
    assert kernel_package(RuntimeError("never raised")) is None
