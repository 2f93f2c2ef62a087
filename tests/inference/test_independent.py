"""What is served, against the same networks written again from their papers on the files of a bundle.

Nothing of `inference` computes what is expected: only PyTorch's own layers, safetensors and the manifest's JSON.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from inference.bundle import load_bundle
from inference.device_choice import choose_device
from inference.models import load_model
from tests.inference.bundles import text_bundle

WORDS = [f"word{number}" for number in range(400)]
LENGTHS = (1, 2, 3, 7, 40, 60, 150, 160)

Weights = dict[str, Tensor]


def kim(weights: Weights, ids: Tensor, arguments: dict[str, Any]) -> Tensor:
    """Sentences as columns of vectors, windows of 3, 4 and 5 words, the maximum over time, a dense layer."""
    columns = weights["embedding.weight"][ids].transpose(1, 2)
    features = []
    for place, kernel in enumerate(arguments.get("kernels", [3, 4, 5])):
        convolution = nn.Conv1d(columns.shape[1], arguments["maps"], kernel)
        convolution.weight = nn.Parameter(weights[f"convolutions.{place}.weight"])
        convolution.bias = nn.Parameter(weights[f"convolutions.{place}.bias"])
        windows = convolution(F.pad(columns, (kernel - 1, kernel)))
        features.append(F.relu(windows).max(dim=2).values)
    return torch.cat(features, 1) @ weights["output.weight"].T + weights["output.bias"]


def glove(weights: Weights, ids: Tensor, arguments: dict[str, Any]) -> Tensor:
    """Three convolutions of 128 maps over 5, two poolings of 5 and one of all that is left, two dense layers."""
    left = ((arguments["length"] - 4) // 5 - 4) // 5 - 4
    network = nn.Sequential(
        nn.Conv1d(arguments["dimensions"], 128, 5),
        nn.ReLU(),
        nn.MaxPool1d(5),
        nn.Conv1d(128, 128, 5),
        nn.ReLU(),
        nn.MaxPool1d(5),
        nn.Conv1d(128, 128, 5),
        nn.ReLU(),
        nn.MaxPool1d(left),
        nn.Flatten(),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Linear(128, arguments["classes"]),
    )
    names = ["conv1", "conv2", "conv3", "dense", "output"]
    ordered = [weights[f"{name}.{part}"] for name in names for part in ("weight", "bias")]
    network.load_state_dict(dict(zip(network.state_dict(), ordered, strict=True)))
    logits: Tensor = network(weights["embedding.weight"][ids].transpose(1, 2))
    return logits


def recurrent(weights: Weights, ids: Tensor, arguments: dict[str, Any]) -> Tensor:
    """PyTorch's own stacked and bidirectional layers on packed sequences, which know each text's length."""
    layers, both = arguments.get("layers", 1), arguments.get("bidirectional", False)
    kind = {"lstm": nn.LSTM, "gru": nn.GRU}[arguments.get("cell", "lstm")]
    network = kind(
        arguments["dimensions"], arguments["hidden"], num_layers=layers, bidirectional=both, batch_first=True
    )
    state = {}
    for layer in range(layers):
        for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            state[f"{part}_l{layer}"] = weights[f"ahead.{layer}.{part}_l0"]
            if both:
                state[f"{part}_l{layer}_reverse"] = weights[f"back.{layer}.{part}_l0"]
    network.load_state_dict(state)
    lengths = (ids != 0).sum(dim=1)
    packed = pack_padded_sequence(weights["embedding.weight"][ids], lengths, batch_first=True, enforce_sorted=False)
    outputs, _ = pad_packed_sequence(network(packed)[0], batch_first=True, padding_value=-torch.inf)
    return outputs.max(dim=1).values @ weights["output.weight"].T + weights["output.bias"]


NETWORKS: list[tuple[str, Callable[[Weights, Tensor, dict[str, Any]], Tensor], dict[str, Any]]] = [
    ("text-cnn", kim, {"dimensions": 30, "maps": 20}),
    ("text-cnn", kim, {"dimensions": 30, "maps": 20, "kernels": [5]}),
    ("glove-cnn", glove, {"dimensions": 30}),
    ("recurrent", recurrent, {"dimensions": 30, "hidden": 20}),
    ("recurrent", recurrent, {"dimensions": 30, "hidden": 20, "cell": "gru"}),
    ("recurrent", recurrent, {"dimensions": 30, "hidden": 20, "bidirectional": True}),
    ("recurrent", recurrent, {"dimensions": 30, "hidden": 20, "bidirectional": True, "layers": 3}),
    ("recurrent", recurrent, {"dimensions": 30, "hidden": 20, "bidirectional": True, "layers": 2, "cell": "gru"}),
]


@pytest.mark.parametrize(("architecture", "compute", "arguments"), NETWORKS)
@pytest.mark.parametrize("half", [[], ["embedding.weight"]], ids=["full", "half"])
def test_the_network_of_the_paper_on_a_bundles_files_gives_the_probabilities_that_are_served(
    tmp_path: Path,
    architecture: str,
    compute: Callable[[Weights, Tensor, dict[str, Any]], Tensor],
    arguments: dict[str, Any],
    half: list[str],
) -> None:
    text_bundle(
        tmp_path / "bundle",
        words=WORDS,
        labels=["one", "two", "three", "four"],
        rules={"tokens": "sentence", "html": False, "length": 160, "keep": "first"},
        architecture=architecture,
        arguments=arguments,
        half=half,
        temperature=0.7,
    )
    rng = np.random.default_rng(3)
    frames = np.zeros((len(LENGTHS), 160), np.int32)
    for frame, length in zip(frames, LENGTHS, strict=True):
        frame[:length] = rng.integers(1, 402, length)

    manifest = json.loads((tmp_path / "bundle" / "bundle.json").read_text())
    stored = safetensors.torch.load((tmp_path / "bundle" / "weights.safetensors").read_bytes())
    weights = {name: tensor.float() for name, tensor in stored.items()}
    with torch.no_grad():
        logits = compute(weights, torch.from_numpy(frames).long(), manifest["architecture"]["arguments"])
        expected = torch.softmax(logits / manifest["temperature"], dim=1).numpy()

    engine = load_model(load_bundle(tmp_path / "bundle"), choose_device("cpu", "float32"), max_batch=8).engine
    engine.staging(0)[:] = frames
    engine.launch(0, 8)
    np.testing.assert_allclose(engine.collect(0), expected, rtol=0, atol=1e-5)
    assert expected.std(axis=0).max() > 0.005
