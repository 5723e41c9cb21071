from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pytest_ftcheck.predict import timeline as module
from pytest_ftcheck.predict.device import FakeDevice
from pytest_ftcheck.predict.gpu import GPUS
from pytest_ftcheck.predict.journal import Journal
from pytest_ftcheck.predict.modules import ModuleWatch
from pytest_ftcheck.predict.timeline import Timeline


@pytest.fixture
def timeline(tmp_path: Path) -> Iterator[Timeline]:
    """On the fake CPU, which needs no process of its own."""
    modules = ModuleWatch()
    yield Timeline(FakeDevice("cpu"), GPUS["a100"], modules, Journal(tmp_path / "journal"))
    for hook in modules._hooks:
        hook.remove()


def fake(timeline: Timeline, *shape: int) -> Tensor:
    with timeline.device.mode:
        return torch.ones(shape, requires_grad=True)


def test_cublas_gets_one_handle_for_the_forward_and_one_for_the_backward_pass(timeline: Timeline) -> None:
    left, right = fake(timeline, 4, 8), fake(timeline, 8, 4)
    with timeline:
        timeline.phase = "forward"
        shifted = left + 1.0
        assert timeline.handles_at == ()
        product = shifted @ right
        forward = len(timeline.events)
        assert timeline.handles_at == (forward,)
        again = product @ left
        assert timeline.handles_at == (forward,)
        loss = again.sum()
        timeline.phase = "backward"
        before = len(timeline.events)
        loss.backward()
    first, second = timeline.handles_at
    assert first == forward
    assert second > before


def test_the_workspace_of_cublas_comes_after_the_result_of_the_product(timeline: Timeline) -> None:
    left, right = fake(timeline, 4, 8), fake(timeline, 8, 4)
    with timeline, torch.no_grad():
        product = left @ right
    (handle,) = timeline.handles_at
    assert timeline.events[handle - 1].bytes == product.nbytes


def test_asking_where_a_tensor_is_is_no_operation(timeline: Timeline) -> None:
    tensor = fake(timeline, 4)
    with timeline:
        assert tensor.device.type == "cpu"
        assert torch.ops.prim.device.default(tensor) == torch.device("cpu")
        assert timeline.operations == 0
        assert (tensor * 2).shape == (4,)
    assert timeline.operations == 1


def test_tensors_that_are_real_are_carried_out_as_they_are(timeline: Timeline) -> None:
    with timeline:
        product = torch.full((2, 2), 3.0) @ torch.eye(2)
    assert product.tolist() == [[3.0, 3.0], [3.0, 3.0]]
    assert timeline.operations == 0
    assert timeline.handles_at == ()


def test_what_a_kernel_takes_for_itself_is_there_beside_its_result(
    timeline: Timeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "inner_bytes", lambda name, *_: 1000 if name == "aten::mul" else 0)
    timeline.granularity = timeline.device.granularity = 512
    tensor = fake(timeline, 4)
    with timeline, torch.no_grad():
        doubled = tensor * 2
        plain = tensor + 1
    assert [event.bytes for event in timeline.events] == [512, 1024, -1024, 512]
    assert timeline.origin[timeline.events[1].storage].op == "aten::mul"
    assert (doubled.shape, plain.shape) == ((4,), (4,))


def test_the_least_time_of_an_update_is_that_of_its_operations(timeline: Timeline) -> None:
    tensor = fake(timeline, 1000)
    with timeline, torch.no_grad():
        kept = tensor + 1
        once = timeline.seconds[0]
        kept = kept + 1
        assert timeline.seconds[0] == pytest.approx(2 * once)
        timeline.update = 1
        kept = kept + 1
    assert timeline.seconds[1] == pytest.approx(once)


@pytest.mark.parametrize(
    "text",
    [
        # torch 2.11 and 2.12; and 2.13.
        "Unhandled FakeTensor Device Propagation for aten.add.Tensor, found two different devices fakegpu:0, cpu",
        "Expected all tensors to be on the same device, but found at least two devices, fakegpu:0 and cpu!",
    ],
)
def test_operands_on_two_devices_are_told_in_the_words_of_a_real_run(
    text: str, timeline: Timeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def carry_out(*_: object) -> None:
        raise RuntimeError(text)

    tensor = fake(timeline, 2)
    monkeypatch.setattr(timeline.device, "carry_out", carry_out)
    with timeline, pytest.raises(RuntimeError) as caught:
        tensor.sin()
    expected = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
    assert str(caught.value) == expected
