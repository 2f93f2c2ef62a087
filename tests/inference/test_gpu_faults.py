"""A GPU that really has no memory, is really lost, and really hangs.

`python -m pytest -c /dev/null --rootdir . -m gpu tests/inference` runs these and all other tests of inference that need
a GPU, with PyTorch, NumPy, safetensors, pydantic, pytest and hypothesis alone.
"""

import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from inference.bundle import Bundle
from inference.core import Core
from inference.device_choice import choose_device
from inference.devices import DeviceError, DeviceMemoryError, Engine, cuda
from inference.lanes import Trouble
from inference.manifest import Precision
from inference.models import load_model
from inference.served_module import reference_probabilities, served_module
from tests.inference.bundles import people
from tests.inference.devices import needs_cuda
from tests.inference.fakes import Clock, Receiver
from tests.test_rooms import ROOT

pytestmark = [pytest.mark.gpu, needs_cuda]

MIB = 1 << 20
LONG_S = 60.0


@contextmanager
def memory_left(mib: int) -> Iterator[None]:
    """Take all of the GPU's memory but so much."""
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    hog = torch.empty(free - mib * MIB, dtype=torch.uint8, device="cuda")
    try:
        yield
    finally:
        del hog
        torch.cuda.empty_cache()


def check_answers(har: Bundle) -> None:
    engine = load_model(har, choose_device("cuda", "float32"), max_batch=64).engine
    values = people(50)
    engine.staging(0)[:50] = values
    engine.launch(0, 50)
    expected = reference_probabilities(served_module(har), values)
    np.testing.assert_allclose(engine.collect(0), expected, rtol=0, atol=1e-4)


def test_a_model_without_room_is_reported_as_that_and_the_gpu_goes_on_working(har: Bundle) -> None:
    """Memory ends somewhere else each time: at the weights, in the warm-up, while a graph is captured, or not."""
    check_answers(har)
    device = choose_device("cuda", "float32")
    errors: list[type[DeviceError]] = []
    for mib in (16, 64, 128, 256, 384, 512, 768, 1024):
        with memory_left(mib):
            try:
                load_model(har, device, max_batch=8192)
            except DeviceError as error:
                print(f"with {mib} MiB: {error}")
                errors.append(type(error))
        check_answers(har)

    assert DeviceMemoryError in errors


class EagerCuda:
    """A GPU without graphs, whose memory ends in the middle of a batch: a graph has all of its own from the start."""

    name = "cuda"
    precisions: Sequence[Precision] = ("float32",)

    def load(self, bundle: Bundle, precision: Precision, max_batch: int) -> Engine:
        frame = bundle.manifest.input
        return EagerEngine(served_module(bundle).to("cuda"), np.zeros((2, max_batch, *frame.shape), frame.dtype))


class EagerEngine:
    def __init__(self, module: nn.Module, staged: NDArray[Any]) -> None:
        self._module = module
        self._staged: list[NDArray[Any]] = list(staged)
        self._frames = [0, 0]

    def staging(self, slot: int) -> NDArray[Any]:
        return self._staged[slot]

    def launch(self, slot: int, frames: int) -> None:
        self._frames[slot] = frames

    def collect(self, slot: int) -> NDArray[np.float32]:
        with cuda.device_errors(), torch.inference_mode():
            frames = torch.from_numpy(self._staged[slot][: self._frames[slot]])
            answers: NDArray[np.float32] = self._module(frames.to("cuda")).cpu().numpy()
            return answers


def test_batches_for_which_the_gpu_has_no_memory_are_answered_in_smaller_ones(har: Bundle) -> None:
    received, troubles = Receiver(), list[Trouble]()
    core = Core(EagerCuda(), max_batch=4096, capacity=20_000, clock=Clock(), deliver=received)
    lane = core.open(har, troubles.append)
    core.start()
    values = people(10_000)
    lane.submit(values[:100], 0)  # makes what PyTorch makes once, while there is memory
    lane.drain(LONG_S)
    with memory_left(160):
        lane.submit(values[100:], 100)
        lane.drain(LONG_S)
    core.close()

    assert {trouble.outcome for trouble in troubles} == {"smaller"}
    answers = np.concatenate([result.probabilities for result in received.results])
    assert [result.ticket + result.start for result in received.results] == sorted(
        result.ticket + result.start for result in received.results
    )
    np.testing.assert_allclose(
        answers, reference_probabilities(served_module(har), values), rtol=0, atol=0.02
    )  # by TF32


PROGRAM = """
    import sys, time
    from pathlib import Path
    import numpy as np, torch
    from inference.bundle import load_bundle
    from inference.served_module import reference_probabilities, served_module
    from inference.core import Core
    from inference.device_choice import choose_device
    from service.serving.device_watch import watched
    from tests.inference.bundles import people

    bundle, results, troubles = load_bundle(Path(sys.argv[1])), [], []
    core = Core(
        choose_device("cuda", "float32"),
        max_batch=64,
        clock=time.monotonic,
        deliver=results.append,
        fallback=choose_device("cpu") if sys.argv[2] == "cpu" else None,
    )
    lane = core.open(bundle, troubles.append)
    core.start()
    values = people(300)

    def lose_it():
        torch.zeros(2, device="cuda")[torch.tensor([5], device="cuda")]  # an assertion fails on the GPU

    def hang_it():
        with torch.cuda.stream(lane.model.engine._slots[0]._streams.compute):
            torch.cuda._sleep(10**12)

    with watched(core, 3):
        try:
            lane.submit(values[:100], None)
            lane.drain(20)
            {fault}()
            lane.submit(values[100:], None)
            lane.drain(20)
        finally:
            core.close()
    answers = np.concatenate([result.probabilities for result in results])
    np.testing.assert_allclose(answers, reference_probabilities(served_module(bundle), values), rtol=0, atol=1e-4)
    print(len(answers), lane.model.device, [trouble.outcome for trouble in troubles], type(troubles[0].error).__name__)
"""


def run(har: Bundle, fault: str, fallback: str) -> "subprocess.CompletedProcess[str]":
    """Run the program in a process of its own: its GPU is of no use to anybody after that."""
    program = textwrap.dedent(PROGRAM).replace("{fault}", fault)
    command = [sys.executable, "-c", program, str(har.folder), fallback]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)


def test_a_gpu_that_is_lost_leaves_its_frames_to_the_cpu_and_does_not_abort_the_end(har: Bundle) -> None:
    done = run(har, "lose_it", "cpu")
    assert done.stdout == "300 cpu ['fallback'] DeviceLostError\n", done.stderr
    assert done.returncode == 0, done.stderr


def test_a_gpu_that_is_lost_ends_the_process_with_the_reason_where_there_is_no_fallback(har: Bundle) -> None:
    done = run(har, "lose_it", "none")
    assert "can't be served on cuda any more: the GPU has failed: " in done.stderr
    assert (done.returncode, done.stdout) == (1, ""), done.stderr


def test_a_gpu_that_hangs_ends_the_process_within_the_deadline(har: Bundle) -> None:
    done = run(har, "hang_it", "none")
    assert "has not answered a batch within 3 s (inference.deadline_s)" in done.stderr
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
