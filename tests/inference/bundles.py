"""Small bundles with random weights, made where a test needs them."""

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from inference.architectures import build
from inference.bundle import Bundle, load_bundle
from inference.manifest import ArchitectureChoice, Description, Input, Normalisation, Population, Training
from inference.saving import save_bundle
from tests.inference.texts import decide, texts_of

LABELS = ("Downstairs", "Jogging", "Sitting", "Standing", "Upstairs", "Walking")
TRAINING = Training(data=(), command="made by a test", seed=0, date=datetime.date(2026, 1, 2))


def people(count: int, seed: int = 1) -> np.ndarray:
    """Frames float32 (count, 80, 3) that look a little like phones in pockets, in m/s^2."""
    rng = np.random.default_rng(seed)
    frames = rng.normal((0.5, 9.0, -0.5), (3.0, 4.0, 5.0), (count, 80, 3))
    return frames.astype(np.float32)


def decided_network(seed: int = 0, **arguments: int) -> nn.Module:
    """The HAR network with random weights large enough that its answers differ from frame to frame."""
    torch.manual_seed(seed)
    return decide(build("har-cnn", **arguments))


def har_description(**changes: Any) -> Description:
    labels = changes.get("labels", LABELS)
    others = 0.25 / (len(labels) - 1)
    fields: dict[str, Any] = {
        "name": "tiny-har",
        "version": "1.0",
        "architecture": ArchitectureChoice(name="har-cnn"),
        "input": Input(shape=(80, 3)),
        "labels": labels,
        "normalisation": Normalisation(mean=(0.5, 9.0, -0.5), std=(3.0, 4.0, 5.0)),
        "temperature": 0.8,
        "population": Population(
            tenths={"movement": tuple(0.5 * tenth for tenth in range(1, 10))}, shares=(1 / len(labels),) * len(labels)
        ),
        # What `training.activity_model.quantisation` finds for frames as `people` makes them, whatever the seed.
        "activation_ranges": {"conv2": 3.85, "conv3": 3.5, "conv4": 2.8},
        "transitions": tuple(tuple(0.75 if a == b else others for b in labels) for a in labels),
        "training": TRAINING,
    }
    return Description(**(fields | changes))


def har_bundle(folder: Path, seed: int = 0, **changes: Any) -> Bundle:
    return save_bundle(folder, decided_network(seed), har_description(**changes), people(4))


def familiar_network(seed: int = 0) -> nn.Module:
    """As `decided_network`, with logits so far apart and so low that `people` are of all familiarities."""
    network = decided_network(seed).eval()
    with torch.no_grad():
        standard = torch.from_numpy((people(40) - (0.5, 9.0, -0.5)) / (3.0, 4.0, 5.0)).float()
        network.get_parameter("output.weight").mul_(10.0)
        network.get_parameter("output.bias").sub_(network(standard).logsumexp(dim=1).median())
    return network


def familiar_bundle(folder: Path, seed: int = 0, **changes: Any) -> Bundle:
    """As `har_bundle`, but with a familiarity output."""
    description = har_description(tells_strangers=True, **changes)
    return save_bundle(folder, familiar_network(seed), description, people(4))


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


WORDS = ("good", "bad", "film", "plot", "a", "the", "is", "was", "very", "not", "story", "actor", "dull", "moving")
RULES = {"tokens": "sentence", "html": False, "length": 20, "keep": "first"}


def text_bundle(
    folder: Path,
    *,
    words: Sequence[str] = WORDS,
    labels: Sequence[str] = ("objective", "subjective"),
    rules: Mapping[str, Any] = RULES,
    architecture: str = "text-cnn",
    arguments: Mapping[str, Any] | None = None,
    half: Sequence[str] = (),
    **changes: Any,
) -> Bundle:
    """A text network with random weights whose answers differ; `rules` are the framing's, with the `length`."""
    length = rules["length"]
    arguments = {
        "tokens": len(words) + 2,
        "length": length,
        "dimensions": 12,
        "classes": len(labels),
        **(arguments or {}),
    }
    torch.manual_seed(0)
    fields: dict[str, Any] = {
        "name": "tiny-text",
        "version": "1.0",
        "architecture": ArchitectureChoice(name=architecture, arguments=arguments),
        "input": Input(shape=(length,), dtype="int32"),
        "labels": tuple(labels),
        "framing": dict(rules),
        "training": TRAINING,
    }
    return save_bundle(
        folder,
        decide(build(architecture, **arguments)),
        Description(**(fields | changes)),
        texts_of(4, length, tokens=arguments["tokens"]),
        vocabulary=words,
        half=half,
    )


def undecided_text_bundle(folder: Path) -> Bundle:
    """A bundle of frames of three ids and three labels, for tests on fake devices, which give their own answers."""
    words = [f"w{number}" for number in range(998)]
    arguments = {"tokens": 1_000, "length": 3, "dimensions": 2, "maps": 2, "classes": 3}
    description = Description(
        name="undecided",
        version="1",
        architecture=ArchitectureChoice(name="text-cnn", arguments=arguments),
        input=Input(shape=(3,), dtype="int32"),
        labels=("x", "y", "z"),
        training=TRAINING,
    )
    network = build("text-cnn", **arguments)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    return save_bundle(folder, network, description, np.zeros((1, 3), np.int32), vocabulary=words)
