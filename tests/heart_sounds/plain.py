"""The trained network by PyTorch alone, and what makes its bundle: as a user would, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from tests.heart_sounds.framing import spectrograms
from tests.heart_sounds.network import SpectrogramCnn, SpectrogramCnnArguments


def train(folder: Path) -> Path:
    command = [sys.executable, "-m", "tests.heart_sounds", "train", "heart", "--output", str(folder)]
    # One thread: where others compute too, threads wait for one another longer than so small a network takes.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def probabilities(folder: Path, samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """What a bundle's weights give sounds int16 (n, 2000), without the service: float32 (n, labels)."""
    manifest = json.loads((folder / "bundle.json").read_text())
    network = SpectrogramCnn(SpectrogramCnnArguments(classes=len(manifest["labels"]))).eval()
    network.load_state_dict(load_file(folder / "weights.safetensors"))
    mean, std = (np.array(manifest["normalisation"][name], np.float32) for name in ("mean", "std"))
    with torch.inference_mode():
        logits = network(torch.from_numpy((spectrograms(samples) - mean) / std))
    return np.asarray(torch.softmax(logits / manifest["temperature"], dim=1))
