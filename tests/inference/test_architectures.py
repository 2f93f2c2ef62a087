import subprocess
import sys

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from inference.architectures import build, count_parameters
from inference.manifest import ArchitectureChoice


def test_har_cnn_has_the_520_486_parameters_of_the_article() -> None:
    assert count_parameters(build("har-cnn")) == 520_486


def test_har_cnn_has_the_articles_layers_one_by_one() -> None:
    shapes = {name: tuple(parameter.shape) for name, parameter in build("har-cnn").named_parameters()}

    assert shapes == {
        "conv1.weight": (100, 3, 10),
        "conv1.bias": (100,),
        "conv2.weight": (100, 100, 10),
        "conv2.bias": (100,),
        "conv3.weight": (160, 100, 10),
        "conv3.bias": (160,),
        "conv4.weight": (160, 160, 10),
        "conv4.bias": (160,),
        "output.weight": (6, 160),
        "output.bias": (6,),
    }


@pytest.mark.parametrize("arguments", [{}, {"axes": 6, "classes": 2, "slots": 160}])
def test_har_cnn_says_without_its_network_what_its_weights_are(arguments: dict[str, int]) -> None:
    choice = ArchitectureChoice(name="har-cnn", arguments=arguments)

    assert choice.checked().tensors == choice.tensors_when_built()


def test_har_cnn_computes_what_the_same_layers_of_pytorch_compute() -> None:
    network = build("har-cnn").eval()
    plain = nn.Sequential(
        nn.Conv1d(3, 100, 10),
        nn.ReLU(),
        nn.Conv1d(100, 100, 10),
        nn.ReLU(),
        nn.MaxPool1d(3),
        nn.Conv1d(100, 160, 10),
        nn.ReLU(),
        nn.Conv1d(160, 160, 10),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(160, 6),
    )
    plain.load_state_dict(dict(zip(plain.state_dict(), network.state_dict().values(), strict=True)))
    frames = torch.randn(5, 80, 3)

    with torch.no_grad():
        np.testing.assert_allclose(network(frames), plain(frames.transpose(1, 2)), rtol=0, atol=1e-5)


def test_har_cnn_answers_a_flat_vector_of_240_as_it_answers_80_readings_of_3_axes() -> None:
    network = build("har-cnn").eval()
    frames = torch.randn(5, 80, 3)

    with torch.no_grad():
        np.testing.assert_allclose(network(frames.reshape(5, 240)), network(frames), rtol=0, atol=0)


def test_har_cnn_drops_half_of_the_features_in_training_and_none_in_service() -> None:
    network = build("har-cnn")
    frames = torch.randn(1, 80, 3).expand(64, 80, 3)

    with torch.no_grad():
        assert network.train()(frames).std(dim=0).max() > 0
        np.testing.assert_allclose(network.eval()(frames).std(dim=0), np.zeros(6), rtol=0, atol=1e-5)


def test_75_slots_are_the_fewest_that_the_har_cnn_takes() -> None:
    assert build("har-cnn", slots=75)(torch.randn(1, 75, 3)).shape == (1, 6)
    with pytest.raises(ValidationError, match="slots"):
        build("har-cnn", slots=74)


def test_constant_gives_every_frame_the_same_logits() -> None:
    network = build("constant", classes=3, shape=(4,))

    assert network(torch.randn(2, 4)).tolist() == [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("name", "arguments", "complaint"),
    [
        ("har-cnn", {"slots": 10**9}, "slots"),
        ("har-cnn", {"slots": "80"}, "slots"),
        ("har-cnn", {"axes": 0}, "axes"),
        ("har-cnn", {"classes": 1}, "classes"),
        ("har-cnn", {"classes": 10**6}, "classes"),
        ("har-cnn", {"classes": True}, "classes"),
        ("har-cnn", {"dropout": 1.0}, "dropout"),
        ("har-cnn", {"dropout": float("nan")}, "dropout"),
        ("har-cnn", {"width": 100}, "width"),
        ("constant", {"shape": []}, "shape"),
        ("constant", {"shape": [2, -1]}, "shape"),
        ("constant", {"shape": [1, 1, 1, 1, 1]}, "shape"),
    ],
)
def test_a_wrong_argument_is_refused_by_name_before_anything_is_built(
    name: str, arguments: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ValidationError, match=complaint):
        build(name, **arguments)


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(KeyError, match="har-transformer"):
        build("har-transformer")


def test_a_skeleton_takes_no_memory_and_is_loaded_without_what_only_its_random_weights_would_need() -> None:
    """sympy alone takes three seconds of each start of a text worker."""
    load = (
        "import sys; from inference.bundle import find_bundle, load_bundle; "
        "from inference.served_module import served_module; "
        "module = served_module(load_bundle(find_bundle('subjectivity'))); "
        "print('sympy' in sys.modules, {parameter.device.type for parameter in module.parameters()})"
    )
    found = subprocess.run([sys.executable, "-c", load], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "{'cpu'}"]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("har-cnn", {}),
        ("text-cnn", {"tokens": 50, "length": 20, "classes": 3}),
        ("recurrent", {"tokens": 50, "length": 20, "classes": 3}),
        ("constant", {"classes": 3}),
    ],
)
def test_a_skeleton_has_the_tensors_of_the_network(name: str, arguments: dict[str, int]) -> None:
    choice = ArchitectureChoice(name=name, arguments=arguments)
    built, skeleton = choice.build().state_dict(), choice.skeleton().state_dict()
    assert {key: (tensor.shape, tensor.dtype) for key, tensor in skeleton.items()} == {
        key: (tensor.shape, tensor.dtype) for key, tensor in built.items()
    }
    assert {tensor.device.type for tensor in skeleton.values()} == {"meta"}
