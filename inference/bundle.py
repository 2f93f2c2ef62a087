"""Model bundles: a folder that says what a model is, holds its weights, and proves that it works as promised.

    <folder>/bundle.json          the manifest (`Manifest`), at most 1 MiB
    <folder>/weights.safetensors  the architecture's parameters and buffers, by name
    <folder>/vocabulary.txt       for texts: the words behind the ids (see `vocabulary`)

A bundle is not trusted: it names one of our own architectures, its arguments are bounded before anything is
allocated, tensors must have exactly the architecture's names and shapes and hold finite numbers, and nothing
in it is ever executed or used as a path.

Errors: see `inference.manifest`; their names, and the manifest's parts, can be had from here too.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor, nn

from inference import vocabulary
from inference.manifest import (
    PRECISIONS,
    ArchitectureChoice,
    BundleError,
    BundleNotFoundError,
    DataSet,
    Description,
    Golden,
    GoldenError,
    Input,
    Manifest,
    ManifestError,
    Normalisation,
    Precision,
    Tolerance,
    Training,
    VocabularyError,
    WeightsError,
)
from inference.served import Served

__all__ = [
    "PRECISIONS",
    "SHIPPED",
    "ArchitectureChoice",
    "Bundle",
    "BundleError",
    "BundleNotFoundError",
    "BundleSummary",
    "DataSet",
    "Description",
    "GoldenError",
    "Input",
    "Manifest",
    "ManifestError",
    "Normalisation",
    "Precision",
    "Tolerance",
    "Training",
    "VocabularyError",
    "WeightsError",
    "check_golden",
    "describe_bundles",
    "find_bundle",
    "infer_plainly",
    "load_bundle",
    "save_bundle",
    "served_module",
    "shipped_bundles",
]

MANIFEST_NAME = "bundle.json"
WEIGHTS_NAME = "weights.safetensors"
VOCABULARY_NAME = "vocabulary.txt"
MANIFEST_LIMIT = 1 << 20
WEIGHTS_HEADER_LIMIT = 1 << 16
SHIPPED = Path(__file__).parent / "bundles"


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A bundle whose manifest and weights have been checked, though not yet its golden answers."""

    folder: Path
    manifest: Manifest
    weights: Mapping[str, Tensor]
    vocabulary: tuple[str, ...]
    """The words with the ids 2, 3 and so on; empty where frames are not texts."""
    digest: str
    """SHA-256, in hexadecimal, of `bundle.json`, `weights.safetensors` and, for texts, `vocabulary.txt`, in a row."""

    @property
    def title(self) -> str:
        """`name@version`, as labels carry it."""
        return f"{self.manifest.name}@{self.manifest.version}"


def load_bundle(folder: Path) -> Bundle:
    """Read and check a bundle; the golden answers are checked by whoever serves it (`check_golden`).

    Raises `BundleNotFoundError`, `ManifestError`, `WeightsError` or `VocabularyError`.
    """
    manifest_bytes = _read(folder / MANIFEST_NAME, MANIFEST_LIMIT, ManifestError)
    manifest = _parse_manifest(manifest_bytes, folder / MANIFEST_NAME)
    wanted = _state_on_meta(manifest)
    limit = WEIGHTS_HEADER_LIMIT + sum(4 * tensor.numel() for tensor in wanted.values())
    weights_bytes = _read(folder / WEIGHTS_NAME, limit, WeightsError)
    weights = _parse_weights(weights_bytes, wanted, folder / WEIGHTS_NAME)
    vocabulary_bytes = b""
    words: tuple[str, ...] = ()
    if (ids := manifest.architecture.checked().input_limit) is not None:
        vocabulary_bytes = _read(folder / VOCABULARY_NAME, vocabulary.LIMIT, VocabularyError)
        words = _parse_vocabulary(vocabulary_bytes, ids, folder / VOCABULARY_NAME)
        if hashlib.sha256(vocabulary_bytes).hexdigest() != manifest.vocabulary_sha256:
            raise VocabularyError(
                f"{folder / VOCABULARY_NAME} is not the file whose SHA-256 is the manifest's vocabulary_sha256, so its "
                f"words belong to another model: copy the bundle anew, whole"
            )
        if weights["embedding.weight"][0].any():
            raise WeightsError(
                f"{folder / WEIGHTS_NAME}: tensor 'embedding.weight' has a vector for padding, row 0, that is not "
                f"zero, so that padding would change answers: set it to zero"
            )
    digest = hashlib.sha256(manifest_bytes + weights_bytes + vocabulary_bytes).hexdigest()
    return Bundle(folder, manifest, weights, words, digest)


def find_bundle(name_or_path: str) -> Path:
    """The folder of a bundle given by the name of a shipped one or by a path.

    Raises `BundleNotFoundError` that lists the shipped names.
    """
    if re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name_or_path) and (SHIPPED / name_or_path).is_dir():
        return SHIPPED / name_or_path
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return path
    known = ", ".join(folder.name for folder in shipped_bundles()) or "none"
    raise BundleNotFoundError(
        f"no bundle {name_or_path!r}: it is neither a folder nor one of the shipped bundles ({known})"
    )


def shipped_bundles() -> list[Path]:
    """The folders of the bundles that come with the program, by name."""
    return sorted(folder.parent for folder in SHIPPED.glob(f"*/{MANIFEST_NAME}"))


def served_module(bundle: Bundle) -> Served:
    """The bundle's network in float32, ready to serve: frames (n, *shape) to probabilities (n, labels)."""
    manifest = bundle.manifest
    with torch.device("meta"):
        network = manifest.architecture.build()
    network.load_state_dict(bundle.weights, strict=True, assign=True)
    return _serve(network, manifest)


def check_golden(bundle: Bundle, infer: Callable[[NDArray[Any]], NDArray[np.float32]], precision: Precision) -> None:
    """Hold the answers of `infer`, which computes at `precision`, against the golden ones.

    Raises `GoldenError` with the largest difference and what is allowed.
    """
    manifest = bundle.manifest
    expected = np.array(manifest.golden.probabilities, dtype=np.float64)
    found = infer(manifest.golden_frames())
    tolerance: float = getattr(manifest.golden.tolerance, precision)
    difference = float(np.max(np.abs(found - expected)))
    if not difference <= tolerance:  # `not <=`: a NaN fails too
        raise GoldenError(
            f"{bundle.folder}: at {precision} the model misses its golden probabilities by {difference:.2g}, "
            f"more than the {tolerance:.2g} it allows: the weights do not belong to this manifest, or this "
            f"machine computes differently"
        )


def save_bundle(
    folder: Path,
    network: nn.Module,
    description: Description,
    golden_frames: NDArray[Any],
    *,
    vocabulary: Sequence[str] = (),
    half: Collection[str] = (),
) -> Bundle:
    """Write a bundle; its golden answers are what the weights, as stored, give `golden_frames` on the CPU in float32.

    `golden_frames`: 1 to 16 frames (m, *shape), better real ones of different classes. `vocabulary`: for texts, the
    words with the ids 2, 3 and so on. `half`: the tensors to store as float16. A bundle already at `folder` is
    replaced; a reader finds the old one, the new one or, for an instant, none, never a mixture.
    Raises `BundleError` if what was written cannot be loaded again or does not reproduce itself.
    """
    state = network.state_dict()
    stored = _stored(state, half, folder)
    served = {name: _checked(tensor, state[name], f"{folder.name}: tensor {name!r}") for name, tensor in stored.items()}
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
        check_golden(written, functools.partial(infer_plainly, served_module(written)), "float32")
        if folder.exists():
            folder.rename(Path(scratch) / "old")
        fresh.rename(folder)
    return dataclasses.replace(written, folder=folder)


def infer_plainly(module: nn.Module, frames: NDArray[Any]) -> NDArray[np.float32]:
    """Answer `frames` by an ordinary call of `module` on the CPU: the reference of the devices."""
    with torch.inference_mode():
        return module(torch.from_numpy(frames)).numpy()  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class BundleSummary:
    """What `stridecast models` tells of a bundle."""

    name: str
    version: str
    labels: tuple[str, ...]
    input: str
    parameters: int
    metrics: Mapping[str, float]
    digest: str
    folder: Path


def describe_bundles(folders: Sequence[Path] | None = None) -> list[BundleSummary]:
    """What the bundles in `folders`, by default the shipped ones, promise.

    Raises `BundleError` at the first that cannot be loaded.
    """
    return [_summarise(load_bundle(folder)) for folder in (shipped_bundles() if folders is None else folders)]


def _summarise(bundle: Bundle) -> BundleSummary:
    manifest = bundle.manifest
    shape = " x ".join(str(size) for size in manifest.input.shape)
    parameters = sum(tensor.numel() for tensor in bundle.weights.values())
    return BundleSummary(
        name=manifest.name,
        version=manifest.version,
        labels=manifest.labels,
        input=f"{shape} {manifest.input.dtype}" + (f", {len(bundle.vocabulary):,} words" if bundle.vocabulary else ""),
        parameters=parameters,
        metrics=manifest.metrics,
        digest=bundle.digest,
        folder=bundle.folder,
    )


def _serve(network: nn.Module, description: Description) -> Served:
    normalisation = description.normalisation
    mean, std = ((), ()) if normalisation is None else (normalisation.mean, normalisation.std)
    return Served(network, mean, std, description.temperature).eval().requires_grad_(False)


def _stored(state: Mapping[str, Tensor], half: Collection[str], folder: Path) -> dict[str, Tensor]:
    if unknown := set(half) - state.keys():
        raise WeightsError(f"{folder.name}: tensor {min(unknown)!r}, to be stored in half, is not one of the network's")
    stored = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}
    return {name: tensor.half() if name in half else tensor for name, tensor in stored.items()}


def _with_golden(
    description: Description, state: Mapping[str, Tensor], frames: NDArray[Any], vocabulary_sha256: str | None
) -> Manifest:
    with torch.device("meta"):
        network = description.architecture.build()
    network.load_state_dict(state, strict=True, assign=True)
    frames = np.ascontiguousarray(frames, dtype=description.input.dtype)
    limit = description.architecture.checked().input_limit
    if limit is not None and not ((frames >= 0) & (frames < limit)).all():
        raise ManifestError(f"golden_frames must be ids from 0 to {limit - 1}")
    probabilities = infer_plainly(_serve(network, description), frames)
    golden = Golden(
        input=tuple(tuple(map(_shortest, frame)) for frame in frames.reshape(len(frames), -1)),
        probabilities=tuple(tuple(map(_shortest, row)) for row in probabilities),
    )
    return Manifest.model_validate({**dict(description), "vocabulary_sha256": vocabulary_sha256, "golden": golden})


def _shortest(value: np.generic) -> float:
    """The double with the fewest digits that is `value` again as a float32; the manifest stays readable."""
    return float(str(value))


def _read(path: Path, limit: int, error: type[BundleError]) -> bytes:
    # A FIFO or a device node would block or never end.
    if not path.is_file():
        raise BundleNotFoundError(f"{path} is missing or not a regular file: a bundle is a folder with this file in it")
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise error(f"{path} is larger than the {limit:,} bytes that it can need")
    return content


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _parse_manifest(content: bytes, path: Path) -> Manifest:
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(step) for step in first["loc"])
        where = f"field {field}" if field else "the manifest"
        raise ManifestError(f"{path}: {where}: {first['msg']}") from None


def _parse_vocabulary(content: bytes, ids: int, path: Path) -> tuple[str, ...]:
    try:
        words = vocabulary.parse(content)
    except ValueError as error:
        raise VocabularyError(f"{path}: {error}") from None
    if len(words) + 2 != ids:
        raise VocabularyError(
            f"{path} holds {len(words):,} words, but the architecture has {ids:,} ids, two of them for padding and "
            f"unknown words: take the file that was written with this manifest"
        )
    return words


def _render_vocabulary(words: Sequence[str], description: Description, folder: Path) -> bytes:
    if description.input.dtype != "int32":
        raise VocabularyError(f"{folder.name}: {description.architecture.name} takes no ids: leave out the vocabulary")
    try:
        return vocabulary.render(words)
    except ValueError as error:
        raise VocabularyError(f"{folder.name}: vocabulary: {error}") from None


def _state_on_meta(manifest: Manifest) -> Mapping[str, Tensor]:
    """Names and shapes of the tensors that the architecture needs, without memory for them."""
    with torch.device("meta"):
        state: Mapping[str, Tensor] = manifest.architecture.build().state_dict()
    return state


def _parse_weights(content: bytes, wanted: Mapping[str, Tensor], path: Path) -> Mapping[str, Tensor]:
    try:
        found = safetensors.torch.load(content)
    except (SafetensorError, KeyError, ValueError) as error:
        raise WeightsError(f"{path} is not a safetensors file: {error}") from None
    if found.keys() != wanted.keys():
        name = min(found.keys() ^ wanted.keys())
        verdict = "is missing" if name in wanted else "is not one that the architecture has"
        raise WeightsError(f"{path}: tensor {name!r} {verdict}")
    return {name: _checked(tensor, wanted[name], f"{path}: tensor {name!r}") for name, tensor in found.items()}


def _checked(tensor: Tensor, wanted: Tensor, where: str) -> Tensor:
    if tensor.shape != wanted.shape:
        raise WeightsError(f"{where} has shape {list(tensor.shape)}, the architecture needs {list(wanted.shape)}")
    # Weights may be stored in half the size that they are served in.
    halved = tensor.dtype in (torch.float16, torch.bfloat16) and wanted.is_floating_point()
    if tensor.dtype != wanted.dtype and not halved:
        raise WeightsError(f"{where} holds {tensor.dtype}, the architecture needs {wanted.dtype}")
    if not bool(torch.isfinite(tensor).all()):
        raise WeightsError(f"{where} holds values that are not finite")
    return tensor.to(wanted.dtype)
