"""Writes model bundles (see `inference.bundle`)."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inference import vocabulary
from inference.bundle import MANIFEST_NAME, VOCABULARY_NAME, WEIGHTS_NAME, Bundle, check_golden, load_bundle
from inference.manifest import Description, Golden, Manifest, ManifestError, VocabularyError, WeightsError
from inference.served_module import for_serving, reference_answers, served_module


def save_bundle(
    folder: Path,
    network: nn.Module,
    description: Description,
    golden_frames: NDArray[Any],
    *,
    vocabulary: Sequence[str] = (),
    half: Collection[str] = (),
) -> Bundle:
    """Write a bundle; its golden answers are the stored weights' answers to `golden_frames`, on the CPU in float32.

    `golden_frames`: 1 to 16 frames (m, *shape), preferably real ones of different classes. `vocabulary`: for texts, the
    words with the ids 2, 3 and so on. `half`: the tensors to store as float16. A bundle already at `folder` is
    replaced; a reader finds the old one, the new one or, for an instant, none, but never a mixture. Raises
    `BundleError` if what was written cannot be loaded again or does not reproduce itself.
    """
    state = network.state_dict()
    stored = _stored(state, half, folder)
    served = {name: _widened(tensor, state[name], f"{folder.name}: tensor {name!r}") for name, tensor in stored.items()}
    files = {WEIGHTS_NAME: safetensors.torch.save(stored)}
    words_digest = None
    if vocabulary or description.input.dtype == "int32":
        files[VOCABULARY_NAME] = _render_vocabulary(vocabulary, description, folder)
        words_digest = hashlib.sha256(files[VOCABULARY_NAME]).hexdigest()
    manifest = _with_golden(description, served, golden_frames, words_digest)
    files[MANIFEST_NAME] = (manifest.model_dump_json(indent=1) + "\n").encode()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        fresh = Path(scratch) / "new"
        fresh.mkdir()
        for name, content in files.items():
            _write(fresh / name, content)
        written = load_bundle(fresh)
        check_golden(written, functools.partial(reference_answers, served_module(written)), "float32")
        if folder.exists():
            folder.rename(Path(scratch) / "old")
        fresh.rename(folder)
    return dataclasses.replace(written, folder=folder)


def _stored(state: Mapping[str, Tensor], half: Collection[str], folder: Path) -> dict[str, Tensor]:
    if unknown := set(half) - state.keys():
        raise WeightsError(f"{folder.name}: tensor {min(unknown)!r}, to be stored in half, is not one of the network's")
    stored = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}
    return {name: tensor.half() if name in half else tensor for name, tensor in stored.items()}


def _with_golden(
    description: Description, state: Mapping[str, Tensor], frames: NDArray[Any], vocabulary_sha256: str | None
) -> Manifest:
    network = description.architecture.skeleton()
    network.load_state_dict(state, strict=True, assign=True)
    frames = np.ascontiguousarray(frames, dtype=description.input.dtype)
    limit = description.architecture.checked().input_limit
    if limit is not None and not ((frames >= 0) & (frames < limit)).all():
        raise ManifestError(f"golden_frames must be ids from 0 to {limit - 1}")
    answers = reference_answers(for_serving(network, description), frames)
    labels = len(description.labels)
    golden = Golden(
        input=tuple(tuple(map(_shortest, frame)) for frame in frames.reshape(len(frames), -1)),
        probabilities=tuple(tuple(map(_shortest, row)) for row in answers[:, :labels]),
        familiarity=tuple(_shortest(row[labels]) for row in answers) if description.tells_strangers else (),
    )
    return Manifest.model_validate({**dict(description), "vocabulary_sha256": vocabulary_sha256, "golden": golden})


def _shortest(value: np.generic) -> float:
    """Return the double with the fewest digits that equals `value` as a float32: the manifest stays readable."""
    return float(str(value))


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _render_vocabulary(words: Sequence[str], description: Description, folder: Path) -> bytes:
    if description.input.dtype != "int32":
        raise VocabularyError(f"{folder.name}: {description.architecture.name} takes no ids: leave out the vocabulary")
    try:
        return vocabulary.render(words)
    except ValueError as error:
        raise VocabularyError(f"{folder.name}: vocabulary: {error}") from None


def _widened(tensor: Tensor, wanted: Tensor, where: str) -> Tensor:
    if not bool(torch.isfinite(tensor).all()):
        raise WeightsError(f"{where} holds values that are not finite")
    return tensor.to(wanted.dtype)
