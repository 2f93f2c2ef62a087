"""Small bundles with random weights, made where a test needs them."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from inference.architectures import build
from inference.bundle import (
    ArchitectureChoice,
    Bundle,
    Description,
    Input,
    Normalisation,
    Training,
    load_bundle,
    save_bundle,
)

LABELS = ("Downstairs", "Jogging", "Sitting", "Standing", "Upstairs", "Walking")
TRAINING = Training(data=(), command="made by a test", seed=0, date=datetime.date(2026, 1, 2))


def people(count: int, seed: int = 1) -> np.ndarray:
    """Frames float32 (count, 80, 3) that look a little like phones in pockets, in m/s^2."""
    rng = np.random.default_rng(seed)
    frames = rng.normal((0.5, 9.0, -0.5), (3.0, 4.0, 5.0), (count, 80, 3))
    return frames.astype(np.float32)


def decided_network(seed: int = 0) -> nn.Module:
    """The HAR network with random weights large enough that its answers differ from frame to frame."""
    torch.manual_seed(seed)
    network = build("har-cnn")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.7)
    return network


def har_description(**changes: Any) -> Description:
    fields: dict[str, Any] = {
        "name": "tiny-har",
        "version": "1.0",
        "architecture": ArchitectureChoice(name="har-cnn"),
        "input": Input(shape=(80, 3)),
        "labels": LABELS,
        "normalisation": Normalisation(mean=(0.5, 9.0, -0.5), std=(3.0, 4.0, 5.0)),
        "temperature": 0.8,
        "training": TRAINING,
    }
    return Description(**(fields | changes))


def har_bundle(folder: Path, seed: int = 0, **changes: Any) -> Bundle:
    return save_bundle(folder, decided_network(seed), har_description(**changes), people(4))


def constant_bundle(folder: Path, labels: tuple[str, ...] = ("a", "b", "c"), shape: tuple[int, ...] = (2,)) -> Bundle:
    """A bundle for tests on fake devices, which give their own answers."""
    arguments = {"classes": len(labels), "shape": list(shape)}
    description = Description(
        name="constant",
        version="1",
        architecture=ArchitectureChoice(name="constant", arguments=arguments),
        input=Input(shape=shape),
        labels=labels,
        training=TRAINING,
    )
    save_bundle(folder, build("constant", **arguments), description, np.zeros((1, *shape), np.float32))
    return load_bundle(folder)
