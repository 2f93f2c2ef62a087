"""What must be on the output topics: windows from the reference of the semantics, labels from plain PyTorch modules."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from tests.windowing.reference import Reading, Reference, Window, smoothed


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


def expected_smoothed(
    windows: Sequence[tuple[bytes, int]], probabilities: np.ndarray, bundle: Path
) -> dict[tuple[bytes, int], tuple[float, ...] | None]:
    """Return what each window and those before it of its device say: (device, start) and rows in the order of closing.

    None where it is too early to say anything, and everywhere if the bundle tells no transitions.
    """
    transitions = json.loads((bundle / "bundle.json").read_text())["transitions"]
    devices: dict[bytes, list[tuple[int, list[float]]]] = {}
    for (device, start_ms), row in zip(windows, probabilities.tolist(), strict=True):
        devices.setdefault(device, []).append((start_ms, row))
    return {
        (device, start_ms): shares
        for device, own in devices.items()
        for (start_ms, _), shares in zip(own, smoothed(own, transitions or ()), strict=True)
    }


def may_be_smoothed(said: str | None, shares: tuple[float, ...] | None, labels: Sequence[str]) -> bool:
    """Tell whether a smoothed label is the likeliest, or one that roundings may make it; None always may be."""
    return said is None or (shares is not None and shares[labels.index(said)] > 0.9 * max(shares))


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
    logits, manifest = plain_logits(folder, frames)
    temperature = manifest["temperature"]
    assert isinstance(temperature, float)
    return torch.softmax(logits / temperature, dim=1).numpy()


def plain_familiarity(folder: Path, frames: np.ndarray) -> list[float | None]:
    """How likely frames (n, 80, 3) are no strangers, whose logit is 0; None where a bundle knows none."""
    logits, manifest = plain_logits(folder, frames)
    if not manifest.get("tells_strangers"):
        return [None] * len(frames)
    known = torch.cat([logits, torch.zeros(len(logits), 1)], dim=1).softmax(dim=1)[:, :-1].sum(dim=1)
    return [float(share) for share in known]


def plain_logits(folder: Path, frames: np.ndarray) -> tuple[torch.Tensor, dict[str, object]]:
    """The logits of frames, and the bundle's manifest."""
    network, manifest = plain_network(folder)
    values = torch.from_numpy(frames.astype(np.float32))
    normalisation = manifest["normalisation"]
    if normalisation is not None:
        assert isinstance(normalisation, dict)
        values = (values - torch.tensor(normalisation["mean"])) / torch.tensor(normalisation["std"])
    with torch.inference_mode():
        return network(values.transpose(1, 2)), manifest


class PlainTextCnn:
    """Kim's network on a bundle's weights and words, without any of the service's own code.

    Knows texts of lower-case ASCII words between single spaces, of which any tokenisation makes the same.
    """

    def __init__(self, folder: Path) -> None:
        manifest = json.loads((folder / "bundle.json").read_text())
        (self._length,) = manifest["input"]["shape"]
        self._temperature = manifest["temperature"]
        words = (folder / "vocabulary.txt").read_text(encoding="utf-8").splitlines()
        self._ids = {word: number for number, word in enumerate(words, start=2)}
        stored = {name: tensor.float() for name, tensor in load_file(folder / "weights.safetensors").items()}
        self._vectors = stored.pop("embedding.weight")
        self._output = stored.pop("output.weight"), stored.pop("output.bias")
        biases = [stored[name] for name in sorted(stored) if name.endswith("bias")]
        kernels = [stored[name] for name in sorted(stored) if name.endswith("weight")]
        self._convolutions = list(zip(kernels, biases, strict=True))

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Return float32[n, labels]; texts of as many words are answered together, for none is padded."""
        ids = [[self._ids.get(word, 1) for word in text.split()][: self._length] for text in texts]
        lengths = np.array([len(each) for each in ids])
        found = np.empty((len(texts), len(self._output[1])), np.float32)
        with torch.inference_mode():
            for length in np.unique(lengths):
                rows = np.flatnonzero(lengths == length)
                found[rows] = self._answers(torch.tensor([ids[row] for row in rows]))
        return found

    def _answers(self, ids: torch.Tensor) -> np.ndarray:
        vectors = self._vectors[ids].mT  # no padding at all: it must change nothing
        features = [
            torch.relu(F.conv1d(F.pad(vectors, (len(kernel[0, 0]),) * 2), kernel, bias)).amax(dim=2)
            for kernel, bias in self._convolutions
        ]
        logits = F.linear(torch.cat(features, dim=1), *self._output)
        return np.asarray(torch.softmax(logits / self._temperature, dim=1))
