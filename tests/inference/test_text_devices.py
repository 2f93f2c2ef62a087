import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.architectures import build
from inference.bundle import Bundle
from inference.core import Core
from inference.device_choice import choose_device
from inference.devices import pytorch, texts
from inference.devices.texts import (
    TableGloveCnn,
    TableTextCnn,
    TrimmedRecurrent,
    WordTable,
    length_batches,
    lengths,
    optimise_text_layers,
    without_padding,
)
from inference.models import load_model
from inference.served_module import reference_probabilities, served_module
from tests.inference.bundles import people, text_bundle
from tests.inference.devices import BOTH, DEVICES
from tests.inference.fakes import PATIENCE_S, Clock, Receiver
from tests.inference.texts import NETWORKS, TOKENS, texts_of

WORDS = [f"word{number}" for number in range(TOKENS - 2)]


@pytest.fixture(scope="session", params=NETWORKS)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of each text network, with random weights."""
    architecture, arguments = NETWORKS[request.param]
    return text_bundle(
        tmp_path_factory.mktemp("bundles") / "text",
        words=WORDS,
        rules={"tokens": "sentence", "html": False, "length": arguments["length"], "keep": "first"},
        architecture=architecture,
        arguments=arguments,
        half=["embedding.weight"],
    )


def length_of(bundle: Bundle) -> int:
    return bundle.manifest.input.shape[0]


@pytest.mark.parametrize(("name", "precision"), BOTH)
@pytest.mark.parametrize("frames", [1, 2, 9, 32])
def test_a_device_answers_texts_as_the_plain_module_does(
    bundle: Bundle, name: str, precision: str, frames: int
) -> None:
    engine = load_model(bundle, choose_device(name, precision), max_batch=32).engine  # type: ignore[arg-type]
    values = texts_of(frames, length_of(bundle), seed=frames)

    engine.staging(1)[:frames] = values
    engine.launch(1, frames)
    answers = engine.collect(1)

    expected = reference_probabilities(served_module(bundle), values)
    np.testing.assert_allclose(answers, expected, rtol=0, atol=1e-5 if precision == "float32" else 0.03)
    assert answers.dtype == np.float32


@pytest.mark.parametrize("name", DEVICES)
def test_a_texts_answer_does_not_depend_on_its_neighbours_in_the_batch(bundle: Bundle, name: str) -> None:
    engine = load_model(bundle, choose_device(name, "float32"), max_batch=32).engine  # type: ignore[arg-type]
    text = texts_of(1, length_of(bundle), seed=9)

    def answer_at(row: int, frames: int, seed: int) -> np.ndarray:
        staging = engine.staging(0)
        staging[:frames] = texts_of(frames, length_of(bundle), seed=seed)
        staging[row] = text[0]
        engine.launch(0, frames)
        return engine.collect(0)[row : row + 1]

    alone = answer_at(0, 1, seed=0)
    for row, frames, seed in ((0, 2, 1), (1, 2, 2), (7, 8, 3), (17, 30, 4), (31, 32, 5)):
        np.testing.assert_allclose(answer_at(row, frames, seed), alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", DEVICES)
def test_texts_and_readings_are_answered_on_one_device_each_by_its_own_model(
    bundle: Bundle, har: Bundle, name: str
) -> None:
    received = Receiver()
    device = choose_device(name, "float32")  # type: ignore[arg-type]
    core = Core(device, max_batch=8, capacity=100, clock=Clock(), deliver=received)
    readings, texts = core.open(har), core.open(bundle)
    core.start()
    inputs = {"readings": people(40), "texts": texts_of(40, length_of(bundle))}
    for start in range(0, 40, 5):
        assert readings.submit(inputs["readings"][start : start + 5], ("readings", start))
        assert texts.submit(inputs["texts"][start : start + 5], ("texts", start))
    readings.drain(PATIENCE_S)
    texts.drain(PATIENCE_S)
    core.close()

    expected = {
        "readings": reference_probabilities(served_module(har), inputs["readings"]),
        "texts": reference_probabilities(served_module(bundle), inputs["texts"]),
    }
    assert received.frames == 80
    for result in received.results:
        kind, start = result.ticket
        wanted = expected[kind][start + result.start : start + result.stop]
        np.testing.assert_allclose(result.probabilities, wanted, rtol=0, atol=1e-4)


# -- the CPU's equals of the text networks


def frames_of(rows: list[list[int]], length: int) -> np.ndarray:
    frames = np.zeros((len(rows), length), np.int32)
    for frame, row in zip(frames, rows, strict=True):
        frame[: len(row)] = row
    return frames


@given(rows=st.lists(st.lists(st.integers(0, TOKENS - 1), max_size=30), min_size=1, max_size=6))
@settings(deadline=None, max_examples=40)
def test_whatever_the_ids_the_cpu_answers_as_the_plain_module_does(bundle: Bundle, rows: list[list[int]]) -> None:
    module = served_module(bundle)
    optimise_text_layers(module)
    frames = frames_of(rows, length_of(bundle))

    np.testing.assert_allclose(
        reference_probabilities(module, frames),
        reference_probabilities(served_module(bundle), frames),
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [("text-cnn", TableTextCnn), ("glove-cnn", TableGloveCnn), ("lstm", TrimmedRecurrent)],
)
def test_the_cpu_has_an_equal_for_each_text_network(name: str, kind: type) -> None:
    architecture, arguments = NETWORKS[name]
    module = torch.nn.Sequential(build(architecture, tokens=TOKENS, classes=2, **arguments))

    optimise_text_layers(module)

    assert isinstance(module[0], kind)


def test_networks_of_too_many_words_keep_their_convolutions(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of a large vocabulary would take gigabytes."""
    monkeypatch.setattr(texts, "TABLES_LIMIT", 1000)
    module = served_module(bundle)
    optimise_text_layers(module)
    assert not any(isinstance(part, WordTable) for part in module.modules())

    engine = load_model(bundle, choose_device("cpu", "float32"), max_batch=4).engine
    values = texts_of(4, length_of(bundle))
    engine.staging(0)[:] = values
    engine.launch(0, 4)

    np.testing.assert_allclose(
        engine.collect(0), reference_probabilities(served_module(bundle), values), rtol=0, atol=1e-5
    )


def test_without_onednn_the_cpu_serves_texts_too(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytorch, "_has_packed_convolution", lambda: False)

    load_model(bundle, choose_device("cpu"), max_batch=2)


def test_only_columns_without_any_word_are_left_out() -> None:
    def kept(*rows: list[int]) -> int:
        return without_padding(torch.tensor(rows, dtype=torch.int32)).shape[1]

    assert kept([1, 2, 0, 0], [3, 0, 0, 0]) == 2
    assert kept([0, 0, 0, 7], [3, 0, 0, 0]) == 4
    assert kept([0, 0, 0, 0]) == 1


@given(rows=st.lists(st.lists(st.integers(0, 9), max_size=12), min_size=1, max_size=40), tokens=st.integers(1, 60))
@settings(deadline=None)
def test_pieces_hold_each_text_once_with_all_its_tokens_and_no_more_tokens_than_are_allowed(
    rows: list[list[int]], tokens: int
) -> None:
    frames = torch.from_numpy(frames_of(rows, 12))
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts, "PIECE_TOKENS", tokens)
        for piece, length in length_batches(lengths(frames)):
            assert len(piece) == 1 or len(piece) * length <= tokens
            assert not frames[piece, length:].any()
            found += piece.tolist()
    assert sorted(found) == list(range(len(rows)))


def test_a_batch_of_short_and_long_texts_is_answered_row_for_row() -> None:
    """A few texts of 1,000 words made 64 of 130 on average fifteen times slower: all were padded to the longest."""
    torch.manual_seed(0)
    network = build("text-cnn", tokens=TOKENS, classes=3, length=1000, dimensions=8, maps=4).eval()
    module = torch.nn.Sequential(network)
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, TOKENS, size=size).tolist() for size in rng.permutation([0, 1, 1000, 999, *range(2, 200)])]
    frames = frames_of(rows, 1000)
    expected = reference_probabilities(network, frames)

    optimise_text_layers(module)

    np.testing.assert_allclose(reference_probabilities(module, frames), expected, rtol=0, atol=1e-5)
