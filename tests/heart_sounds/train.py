"""Fits the network to synthetic heart sounds. In the program itself it would be `training/train_heart.py`."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
from rich.console import Console

from inference.bundle import Bundle
from inference.manifest import ArchitectureChoice, Description, Input, Normalisation, Training
from inference.saving import save_bundle
from tests.heart_sounds.framing import FRAME, RULES, spectrograms
from tests.heart_sounds.synthetic import LABELS, synthetic_sounds
from training.fitting.fit import fit
from training.fitting.fit_settings import FitSettings
from training.fitting.networks import new_network
from training.fitting.task import Fixed, Task

SETTINGS = FitSettings(epochs=10, batch=32, learning_rate=5e-3)
SOUNDS = 1_500
SEED = 0


def train_heart(folder: Path, console: Console | None = None) -> Bundle:
    """Fit the network for a few seconds; write its bundle."""
    sounds, targets = synthetic_sounds(SOUNDS, SEED)
    frames = spectrograms(sounds)
    mean, std = frames.mean(axis=(0, 1)), frames.std(axis=(0, 1))
    inputs, held = (frames - mean) / std, SOUNDS // 6
    network = new_network("spectrogram-cnn", SEED, classes=len(LABELS))
    task = Task(LABELS, Fixed(inputs[held:], targets[held:]), Fixed(inputs[:held], targets[:held]))
    history = fit(network, task, SETTINGS, console=console)
    description = Description(
        name="synthetic-heart",
        version="1",
        architecture=ArchitectureChoice(name="spectrogram-cnn", arguments={"classes": len(LABELS)}),
        input=Input(shape=FRAME),
        labels=LABELS,
        framing=dict(RULES),
        normalisation=Normalisation(mean=tuple(mean.tolist()), std=tuple(std.tolist())),
        training=Training(
            data=(),  # a function of the seed
            command="stridecast train heart",
            seed=SEED,
            date=datetime.datetime.now(datetime.UTC).date(),
        ),
        metrics={"validation.accuracy": round(history[-1].validation_accuracy, 4)},
    )
    one_of_each = np.unique(targets, return_index=True)[1]
    return save_bundle(folder, network, description, frames[one_of_each])
