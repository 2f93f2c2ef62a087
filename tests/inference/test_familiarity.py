"""Familiarity: what each engine tells of it, and how it comes out of the core beside the probabilities."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from inference.bundle import Bundle
from inference.core import Core, Result
from inference.device_choice import choose_device
from inference.devices import Engine, answer
from inference.lanes import CoreFailedError
from inference.models import load_model
from inference.saving import save_bundle
from inference.served_module import reference_answers, reference_probabilities, served_module
from tests.inference.bundles import familiar_network, har_description, people
from tests.inference.devices import ENGINES, gpu
from tests.inference.fakes import PATIENCE_S, Clock, FakeDevice, Receiver

TOLERANCE = {"float32": 1e-4, "bfloat16": 0.03, "int8": 0.05}
LABELS = 6


def ways() -> list[object]:
    cpu = [pytest.param("cpu", *each.values, marks=each.marks) for each in ENGINES]
    return [*cpu, *(pytest.param("cuda", "auto", precision, marks=gpu) for precision in ("float32", "bfloat16"))]


def load(bundle: Bundle, device: str, engine: str, precision: str, max_batch: int) -> Engine:
    chosen = choose_device(device, precision, engine=engine)  # type: ignore[arg-type]
    return load_model(bundle, chosen, max_batch).engine


def with_logits(folder: Path, logit: float) -> Bundle:
    """A bundle whose logits are all this: next to a large one, bfloat16 would round a label's own away."""
    network = familiar_network()
    network.get_parameter("output.weight").data.zero_()
    network.get_parameter("output.bias").data.fill_(logit)
    return save_bundle(folder, network, har_description(tells_strangers=True), people(4))


def test_familiarity_is_the_probability_of_not_being_the_label_whose_logit_is_nought(familiar: Bundle) -> None:
    """Computed here once more, in float64: one minus the last of a softmax over the logits and 0, no temperature."""
    frames = people(30, seed=5)
    module = served_module(familiar)
    standard = ((frames - module.mean.numpy()) * module.scale.numpy()).astype(np.float32)
    logits = reference_probabilities(module.network, standard).astype(np.float64)
    powers = np.exp(np.column_stack([logits, np.zeros(len(logits))]))

    answers = reference_answers(module, frames)

    assert answers.shape == (30, LABELS + 1)
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers[:, -1], 1 - powers[:, -1] / powers.sum(axis=1), rtol=0, atol=1e-6)
    np.testing.assert_allclose(answers[:, :-1].sum(axis=1), 1, rtol=0, atol=1e-6)
    assert np.ptp(answers[:, -1]) > 0.2


def test_the_temperature_is_the_labels_alone(familiar: Bundle) -> None:
    frames = people(10, seed=6)
    cool, hot = (
        dataclasses.replace(familiar, manifest=familiar.manifest.model_copy(update={"temperature": temperature}))
        for temperature in (0.5, 5.0)
    )
    of_cool, of_hot = (reference_answers(served_module(bundle), frames) for bundle in (cool, hot))

    np.testing.assert_array_equal(of_cool[:, -1], of_hot[:, -1])
    assert (of_cool[:, :-1].max(axis=1) > of_hot[:, :-1].max(axis=1) + 0.05).all()


def test_who_asks_for_probabilities_gets_no_further_column(familiar: Bundle) -> None:
    frames = people(7)
    probabilities = reference_probabilities(served_module(familiar), frames)

    assert probabilities.shape == (7, LABELS)
    assert probabilities.flags.c_contiguous
    np.testing.assert_array_equal(probabilities, reference_answers(served_module(familiar), frames)[:, :LABELS])


@pytest.mark.parametrize(("device", "engine", "precision"), ways())
def test_an_engine_tells_the_familiarity_that_the_plain_module_does(
    familiar: Bundle, device: str, engine: str, precision: str
) -> None:
    loaded = load(familiar, device, engine, precision, 40)
    values = people(40)
    expected = reference_answers(served_module(familiar), values)
    assert ((expected[:, -1] > 0.1) & (expected[:, -1] < 0.9)).sum() > 10
    for frames in (1, 2, 12, 13, 40):
        answers = answer(loaded, values[:frames], 40)
        np.testing.assert_allclose(answers, expected[:frames], rtol=0, atol=TOLERANCE[precision])
        assert answers.dtype == np.float32


@pytest.mark.parametrize(("device", "engine", "precision"), ways())
def test_tiny_and_huge_readings_have_a_familiarity_too(
    familiar: Bundle, device: str, engine: str, precision: str
) -> None:
    loaded = load(familiar, device, engine, precision, 8)
    signs = np.sign(people(8) - people(8).mean())
    sizes = np.array([0.0, 1e-30, 1e-6, 1.0, 30.0, 1e3, 1e4, 1e5], np.float32)
    values = (sizes[:, None, None] * signs).astype(np.float32)
    expected = reference_answers(served_module(familiar), values)
    answers = answer(loaded, values, 8)

    # At int8 what is beyond the ranges is as large as they are, whatever it is: only that it has a familiarity is sure.
    known = slice(4 if precision == "int8" else 8)
    np.testing.assert_allclose(answers[known, -1], expected[known, -1], rtol=0, atol=TOLERANCE[precision])
    assert ((answers >= 0) & (answers <= 1)).all()


@pytest.mark.parametrize(("logit", "expected"), [(-1e30, 0), (-1e4, 0), (-89, 0), (-30, 0), (30, 1), (89, 1), (1e4, 1)])
@pytest.mark.parametrize(("device", "engine", "precision"), ways())
def test_no_logit_is_too_large_or_too_small(
    tmp_path: Path, device: str, engine: str, precision: str, logit: float, expected: int
) -> None:
    bundle = with_logits(tmp_path / "shifted", logit)
    answers = answer(load(bundle, device, engine, precision, 16), people(16), 16)

    np.testing.assert_allclose(answers[:, -1], expected, rtol=0, atol=1e-6)
    assert ((answers >= 0) & (answers <= 1)).all()


# -- through the core


@pytest.fixture
def received() -> Receiver:
    return Receiver()


@pytest.fixture
def core(received: Receiver) -> Iterator[Core]:
    core = Core(choose_device("cpu"), max_batch=8, clock=Clock(), deliver=received)
    yield core
    core.close(PATIENCE_S)


def together(results: list[Result], what: str) -> np.ndarray:
    return np.concatenate([getattr(result, what) for result in sorted(results, key=lambda r: (r.ticket, r.start))])


def test_a_result_carries_familiarity_beside_the_probabilities(
    familiar: Bundle, core: Core, received: Receiver
) -> None:
    lane = core.open(familiar)
    core.start()
    values = people(45, seed=2)
    expected = reference_answers(served_module(familiar), values)
    with lane.together():
        for ticket, start in enumerate(range(0, 45, 3)):
            assert lane.submit(values[start : start + 3], ticket)
    results = received.wait_for(45)

    np.testing.assert_allclose(together(results, "probabilities"), expected[:, :-1], rtol=0, atol=1e-4)
    np.testing.assert_allclose(together(results, "familiarity"), expected[:, -1], rtol=0, atol=1e-4)
    for result in results:
        assert result.familiarity is not None
        assert result.probabilities.shape == (len(result.familiarity), LABELS)
        for part in (result.probabilities, result.familiarity):
            assert part.flags.c_contiguous
            assert part.dtype == np.float32


def test_bundles_that_tell_strangers_and_that_do_not_can_replace_each_other(
    har: Bundle, familiar: Bundle, core: Core, received: Receiver
) -> None:
    lane = core.open(har)
    core.start()
    for ticket, bundle in enumerate((har, familiar, har)):
        if ticket:
            lane.swap(bundle)
        assert lane.submit(people(3), ticket)
        lane.drain(PATIENCE_S)

    seen = [(result.bundle is familiar, result.familiarity is not None) for result in received.wait_for(9)]
    assert seen == [(False, False), (True, True), (False, False)]
    assert all(result.probabilities.shape == (3, LABELS) for result in received.results)


def test_an_engine_that_leaves_the_familiarity_out_is_found_out(familiar: Bundle, received: Receiver) -> None:
    device = FakeDevice()
    device.answer = lambda _: familiar.manifest.golden_answers().astype(np.float32)
    core = Core(device, max_batch=8, clock=Clock(), deliver=received)
    lane = core.open(familiar)
    core.start()
    device.answer = lambda frames: np.full((len(frames), LABELS), 1 / LABELS, np.float32)
    assert lane.submit(people(2), 0)

    with pytest.raises(CoreFailedError, match=r"answered \[2, 6\] instead of \[2, 7\]"):
        lane.drain(PATIENCE_S)
    core.close(PATIENCE_S)
