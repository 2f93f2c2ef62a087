"""What must be on the output topic: windows from the reference of the semantics, labels from a plain PyTorch module."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from tests.windowing.reference import Reading, Reference, Window


def expected_windows(records: list[list[Reading]], *, idle_timeout_s: float = 60, silent: bool = False) -> list[Window]:
    """Return the windows of one partition's records, in the order of their offsets.

    With `silent`, all devices fall silent in the end.
    """
    reference = Reference(lateness_slots=4, max_gap_ms=250, idle_timeout_s=idle_timeout_s)
    windows = []
    for offset, readings in enumerate(records):
        for reading in readings:
            windows += reference.read(reading, offset, 0.0)
    if silent:
        windows += reference.hear(float("inf"))
    return windows


def plain_network(folder: Path) -> tuple[nn.Module, dict[str, object]]:
    """Build the article's network from layers alone, and load a bundle's weights in their order."""
    manifest = json.loads((folder / "bundle.json").read_text())
    network = nn.Sequential(
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
    stored = load_file(folder / "weights.safetensors")
    tensors = list(stored.values())
    for parameter in network.parameters():
        match = next(at for at, tensor in enumerate(tensors) if tensor.shape == parameter.shape)
        parameter.data = tensors.pop(match)
    assert not tensors
    return network.eval(), manifest


def plain_probabilities(folder: Path, frames: np.ndarray) -> np.ndarray:
    """Classify frames (n, 80, 3) without any of the service's own code."""
    network, manifest = plain_network(folder)
    values = torch.from_numpy(frames.astype(np.float32))
    normalisation = manifest["normalisation"]
    if normalisation is not None:
        assert isinstance(normalisation, dict)
        values = (values - torch.tensor(normalisation["mean"])) / torch.tensor(normalisation["std"])
    with torch.inference_mode():
        logits = network(values.transpose(1, 2))
    temperature = manifest["temperature"]
    assert isinstance(temperature, float)
    return torch.softmax(logits / temperature, dim=1).numpy()
