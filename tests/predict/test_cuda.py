"""What ``torch.cuda`` says in a prediction is true of the GPU's profile, and of the dry run."""

from __future__ import annotations

import torch
from predict.loops import Batch, loop_recipe, predicted_with
from torch import Tensor

from pytest_ftcheck import Job
from pytest_ftcheck.predict import GPUS, predict_recipe


def test_cuda_tells_of_the_gpu_that_is_predicted_for() -> None:
    def step(job: Job, batch: Batch, loss: Tensor) -> None:
        assert torch.cuda.get_device_name() == "t4"
        assert torch.cuda.get_device_capability() == (7, 5)
        assert torch.cuda.get_device_properties(0).total_memory == GPUS["t4"].memory_bytes
        assert torch.cuda.mem_get_info()[1] == GPUS["t4"].memory_bytes
        assert not torch.cuda.is_bf16_supported(including_emulation=False)

    predict_recipe(loop_recipe(step), gpu="t4")


def test_the_memory_that_a_loop_logs_is_that_of_live_tensors() -> None:
    def step(job: Job, batch: Batch, loss: Tensor) -> None:
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        held = torch.zeros(1000, device=job.device)
        assert torch.cuda.memory_allocated() - before == 4096
        del held
        assert torch.cuda.memory_allocated() == before
        assert torch.cuda.max_memory_allocated() - before == 4096
        assert torch.cuda.memory_stats()["allocated_bytes.all.current"] == before

    predicted_with(step)


def test_what_a_loop_does_about_speed_changes_nothing() -> None:
    def step(job: Job, batch: Batch, loss: Tensor) -> None:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        end.record()
        assert begin.elapsed_time(end) == 0.0
        with torch.cuda.stream(torch.cuda.Stream()):
            torch.cuda.current_stream().wait_stream(torch.cuda.default_stream())
        torch.ones(3).pin_memory().to(job.device, non_blocking=True)

    assert predicted_with(step).memory == predict_recipe(loop_recipe()).memory


def test_autocast_for_cuda_is_that_of_the_gpu() -> None:
    def step(job: Job, batch: Batch, loss: Tensor) -> None:
        assert not torch.is_autocast_enabled()
        with torch.autocast("cuda", dtype=torch.bfloat16):
            assert torch.is_autocast_enabled()
            assert torch.is_autocast_enabled("cuda")
            assert job.model(**batch)["logits"].dtype == torch.bfloat16
        with torch.amp.autocast(device_type="cuda", enabled=False):
            assert job.model(**batch)["logits"].dtype == torch.float32

    predicted_with(step)
