import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from inference.architectures import ARCHITECTURES, build, count_parameters
from tests.inference.texts import NETWORKS, TOKENS, network_of, texts_of

PADDING_DOES_NOT_MATTER = [name for name in NETWORKS if name != "glove-cnn"]
words = st.lists(st.integers(1, TOKENS - 1), max_size=20)


def logits_of(network: nn.Module, *texts: list[int], length: int) -> Tensor:
    frames = torch.zeros((len(texts), length), dtype=torch.int32)
    for row, text in zip(frames, texts, strict=True):
        row[: len(text)] = torch.tensor(text, dtype=torch.int32)
    with torch.inference_mode():
        logits: Tensor = network(frames)
    return logits


# -- what the papers say


def test_text_cnn_has_kims_windows_and_maps() -> None:
    shapes = {
        name: tuple(tensor.shape)
        for name, tensor in build("text-cnn", tokens=7, length=60, dimensions=300, classes=2).named_parameters()
    }

    assert shapes == {
        "embedding.weight": (7, 300),
        "convolutions.0.weight": (100, 300, 3),
        "convolutions.0.bias": (100,),
        "convolutions.1.weight": (100, 300, 4),
        "convolutions.1.bias": (100,),
        "convolutions.2.weight": (100, 300, 5),
        "convolutions.2.bias": (100,),
        "output.weight": (2, 300),
        "output.bias": (2,),
    }


def test_glove_cnn_has_the_articles_layers_and_pools_over_35_at_length_1000() -> None:
    network = build("glove-cnn", tokens=20_002, classes=20)

    assert count_parameters(network) == 20_002 * 100 + (5 * 100 + 1) * 128 + 2 * (5 * 128 + 1) * 128 + 129 * 128 + (
        129 * 20
    )
    seen: list[int] = []
    network.get_submodule("conv3").register_forward_hook(lambda _, __, output: seen.append(output.shape[3]))
    network(torch.ones((1, 1000), dtype=torch.int32))
    assert seen == [35]


def test_149_tokens_are_the_fewest_that_the_glove_cnn_takes() -> None:
    network = build("glove-cnn", tokens=9, length=149, classes=2)

    assert network(torch.ones((1, 149), dtype=torch.int32)).shape == (1, 2)
    with pytest.raises(ValidationError, match="length"):
        build("glove-cnn", tokens=9, length=148, classes=2)


def test_a_recurrent_network_has_as_many_layers_cells_and_directions_as_it_is_told() -> None:
    one = build("recurrent", tokens=2, length=5, dimensions=10, hidden=16, classes=2)
    two = build(
        "recurrent", tokens=2, length=5, dimensions=10, hidden=16, layers=2, bidirectional=True, cell="gru", classes=2
    )

    assert count_parameters(one) == 2 * 10 + 4 * 16 * (10 + 16 + 2) + 17 * 2
    assert count_parameters(two) == 2 * 10 + 2 * 3 * 16 * (10 + 16 + 2) + 2 * 3 * 16 * (32 + 16 + 2) + 33 * 2


# -- padding, neighbours, empty texts


@pytest.mark.parametrize("name", PADDING_DOES_NOT_MATTER)
@given(text=words, more=st.integers(0, 40))
@settings(deadline=None, max_examples=30)
def test_padding_behind_a_text_never_changes_its_answer(name: str, text: list[int], more: int) -> None:
    network = network_of(name)
    shortest = max(1, len(text))

    expected = logits_of(network, text, length=shortest)

    np.testing.assert_allclose(logits_of(network, text, length=shortest + more), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
@given(text=words, neighbours=st.lists(words, max_size=5), place=st.integers(0, 5))
@settings(deadline=None, max_examples=30)
def test_a_texts_answer_does_not_depend_on_its_neighbours(
    name: str, text: list[int], neighbours: list[list[int]], place: int
) -> None:
    network, length = network_of(name), NETWORKS[name][1]["length"]
    place = min(place, len(neighbours))
    batch = [*neighbours[:place], text, *neighbours[place:]]

    expected = logits_of(network, text, length=length)[0]

    np.testing.assert_allclose(logits_of(network, *batch, length=length)[place], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_text_of_no_words_gets_a_finite_answer(name: str) -> None:
    assert torch.isfinite(logits_of(network_of(name), [], length=NETWORKS[name][1]["length"])).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_different_texts_get_different_answers(name: str) -> None:
    """Or the tests above would pass for a network that ignores its input."""
    length = NETWORKS[name][1]["length"]
    logits = network_of(name)(torch.from_numpy(texts_of(20, length)))

    assert logits.std(dim=0).min() > 0.01


@pytest.mark.parametrize("name", NETWORKS)
def test_the_order_of_the_words_matters(name: str) -> None:
    network, length = network_of(name), NETWORKS[name][1]["length"]
    there, back = logits_of(network, list(range(1, 29)), list(range(28, 0, -1)), length=length)

    assert (there - back).abs().max() > 0.001


def test_a_texts_last_word_is_seen_by_the_convolutions_even_when_the_text_fills_the_frame() -> None:
    network = network_of("text-cnn")
    one, other = logits_of(network, [*range(1, 21)], [*range(1, 20), 40], length=20)

    assert (one - other).abs().max() > 0.001


# -- training


@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_learns_and_the_vector_of_padding_stays_zero(name: str) -> None:
    network = network_of(name, dropout=0.0) if name != "glove-cnn" else network_of(name)
    length = NETWORKS[name][1]["length"]
    network.train()(torch.from_numpy(texts_of(30, length))).square().sum().backward()

    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())
    embedding = network.get_parameter("embedding.weight")
    assert embedding.grad is not None
    assert not embedding[0].any()
    assert not embedding.grad[0].any()


@pytest.mark.parametrize("name", ["text-cnn", "lstm", "deep bidirectional lstm"])
def test_dropout_drops_in_training_and_not_in_service(name: str) -> None:
    network = network_of(name, dropout=0.5)
    frames = torch.from_numpy(texts_of(1, 30)).expand(64, 30)

    with torch.no_grad():
        assert network.train()(frames).std(dim=0).max() > 0.001
        assert network.eval()(frames).std(dim=0).max() < 1e-5


# -- untrusted arguments


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"tokens": 1}, "tokens"),
        ({"tokens": 1_000_001}, "tokens"),
        ({"tokens": 1_000_000, "dimensions": 300}, "take fewer words"),
        ({"length": 0}, "length"),
        ({"length": 8_193}, "length"),
        ({"length": 8_192, "dimensions": 300}, "cut texts shorter"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": 1_025}, "dimensions"),
        ({"dimensions": 100.0}, "dimensions"),
        ({"classes": 1}, "classes"),
    ],
)
@pytest.mark.parametrize("name", ["text-cnn", "glove-cnn", "recurrent"])
def test_arguments_that_would_take_too_much_memory_are_refused_by_name(
    name: str, changes: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ValidationError, match=complaint):
        build(name, **{"tokens": 100, "length": 200, "classes": 2, **changes})


@pytest.mark.parametrize(
    ("name", "changes", "complaint"),
    [
        ("text-cnn", {"kernels": []}, "kernels"),
        ("text-cnn", {"kernels": [0]}, "kernels"),
        ("text-cnn", {"kernels": [17]}, "kernels"),
        ("text-cnn", {"kernels": [3] * 9}, "kernels"),
        ("text-cnn", {"kernels": [True]}, "kernels"),
        ("text-cnn", {"maps": 513}, "maps"),
        ("text-cnn", {"length": 4_096, "maps": 512}, "cut texts shorter"),
        ("text-cnn", {"dropout": 1.0}, "dropout"),
        ("recurrent", {"cell": "transformer"}, "cell"),
        ("recurrent", {"layers": 5}, "layers"),
        ("recurrent", {"hidden": 1_025}, "hidden"),
        ("recurrent", {"length": 1_024, "hidden": 1_000, "bidirectional": True}, "cut texts shorter"),
        ("recurrent", {"bidirectional": 1}, "bidirectional"),
        ("glove-cnn", {"maps": 64}, "maps"),
    ],
)
def test_a_wrong_argument_of_a_text_network_is_refused_by_name(
    name: str, changes: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ValidationError, match=complaint):
        build(name, **{"tokens": 100, "length": 200, "classes": 2, **changes})


@pytest.mark.parametrize("missing", ["tokens", "length", "classes"])
def test_what_only_the_data_can_tell_has_no_default(missing: str) -> None:
    arguments = {"tokens": 100, "length": 200, "classes": 2}
    del arguments[missing]

    with pytest.raises(ValidationError, match=missing):
        build("text-cnn", **arguments)


def test_the_limit_of_ids_is_the_size_of_the_table_and_floats_have_none() -> None:
    text = ARCHITECTURES["text-cnn"].arguments.model_validate({"tokens": 100, "length": 200, "classes": 2})
    har = ARCHITECTURES["har-cnn"].arguments.model_validate({})

    assert (text.input_limit, text.input_dtype, text.input_shape) == (100, "int32", (200,))
    assert (har.input_limit, har.input_dtype, har.input_shape) == (None, "float32", (80, 3))
