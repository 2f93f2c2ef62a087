"""Model bundles: a folder with a model's manifest, its weights, and golden answers that prove that it works.

    <folder>/bundle.json          the manifest (`Manifest`), at most 1 MiB
    <folder>/weights.safetensors  the architecture's parameters and buffers, by name
    <folder>/vocabulary.txt       for texts: the words behind the ids (see `vocabulary`)

A bundle is not trusted. It names one of our own architectures, whose arguments are bounded before anything is
allocated. Tensors must have exactly the architecture's names and shapes, and finite values. Nothing in a bundle is ever
executed or used as a path.

Errors: see `inference.manifest`.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError

from inference import vocabulary
from inference.architectures.arguments import TensorSpec
from inference.manifest import (
    BundleError,
    BundleNotFoundError,
    GoldenError,
    Manifest,
    ManifestError,
    Precision,
    VocabularyError,
    WeightsError,
)

MANIFEST_NAME = "bundle.json"
WEIGHTS_NAME = "weights.safetensors"
VOCABULARY_NAME = "vocabulary.txt"
MANIFEST_LIMIT = 1 << 20
WEIGHTS_HEADER_LIMIT = 1 << 16
HALF_DTYPES: Final = {"F16": "float16", "BF16": "bfloat16"}
"""Safetensors' names of dtypes, and those of NumPy or PyTorch."""
STORED_AS: Final = HALF_DTYPES | {"F32": "float32", "F64": "float64", "I32": "int32", "I64": "int64"}
SHIPPED = Path(__file__).parent / "bundles"


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A bundle with a checked manifest and weights; its golden answers are not checked yet."""

    folder: Path
    manifest: Manifest
    weights: Mapping[str, NDArray[Any]]
    """The architecture's tensors, in the size that they are served in."""
    vocabulary: tuple[str, ...]
    """The words with the ids 2, 3 and so on; empty where frames are not texts."""
    digest: str
    """SHA-256, in hexadecimal, of `bundle.json`, `weights.safetensors` and, for texts, `vocabulary.txt`, in a row."""

    @property
    def title(self) -> str:
        """`name@version`, as labels carry it."""
        return f"{self.manifest.name}@{self.manifest.version}"


def load_bundle(folder: Path) -> Bundle:
    """Read and check a bundle, except for its golden answers (`check_golden`).

    Raises `BundleNotFoundError`, `ManifestError`, `WeightsError` or `VocabularyError`.
    """
    manifest_bytes = _read(folder / MANIFEST_NAME, MANIFEST_LIMIT, ManifestError)
    manifest = _parse_manifest(manifest_bytes, folder / MANIFEST_NAME)
    wanted = manifest.architecture.tensors()
    sizes = (np.dtype(spec.dtype).itemsize * math.prod(spec.shape) for spec in wanted.values())
    weights_bytes = _read(folder / WEIGHTS_NAME, WEIGHTS_HEADER_LIMIT + sum(sizes), WeightsError)
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
    """Return the folder of a bundle, given the name of a shipped one or a path.

    Raises `BundleNotFoundError` that lists the shipped names.
    """
    if re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name_or_path) and (SHIPPED / name_or_path).is_dir():
        return SHIPPED / name_or_path
    path = Path(name_or_path)
    with contextlib.suppress(RuntimeError):  # ~ of a user whom nobody knows
        path = path.expanduser()
    if path.is_dir():
        return path
    known = ", ".join(folder.name for folder in shipped_bundles()) or "none"
    raise BundleNotFoundError(
        f"no bundle {name_or_path!r}: it is neither a folder nor one of the shipped bundles ({known})"
    )


def shipped_bundles() -> list[Path]:
    """Return the folders of the shipped bundles, by name."""
    return sorted(folder.parent for folder in SHIPPED.glob(f"*/{MANIFEST_NAME}"))


def check_golden(bundle: Bundle, infer: Callable[[NDArray[Any]], NDArray[np.float32]], precision: Precision) -> None:
    """Compare the answers of `infer`, which computes at `precision`, with the golden ones, in all columns.

    Raises `GoldenError` with the largest difference and the tolerance.
    """
    manifest = bundle.manifest
    expected = manifest.golden_answers()
    found = infer(manifest.golden_frames())
    if found.shape != expected.shape:
        raise GoldenError(
            f"{bundle.folder}: at {precision} the model answers {list(found.shape)} to its golden frames instead of "
            f"{list(expected.shape)}: what serves it is not made for this manifest"
        )
    tolerance: float = getattr(manifest.golden.tolerance, precision)
    difference = np.abs(found - expected)
    labels = len(manifest.labels)
    for what, part in (("probabilities", difference[:, :labels]), ("familiarity", difference[:, labels:])):
        if not (part <= tolerance).all():  # `not <=`: a NaN fails too
            raise GoldenError(
                f"{bundle.folder}: at {precision} the model misses its golden {what} by {part.max():.2g}, "
                f"more than the {tolerance:.2g} it allows: {_why_missed(precision)}"
            )


def _why_missed(precision: Precision) -> str:
    if precision == "int8":
        return "its activation_ranges don't fit its weights, or such frames: choose another precision"
    return "the weights do not belong to this manifest, or this machine computes differently"


@dataclass(frozen=True, slots=True)
class BundleSummary:
    """What `stridecast models` shows of a bundle."""

    name: str
    version: str
    labels: tuple[str, ...]
    input: str
    parameters: int
    metrics: Mapping[str, float]
    digest: str
    folder: Path


def describe_bundles(folders: Sequence[Path] | None = None) -> list[BundleSummary]:
    """Return summaries of the bundles in `folders`, by default the shipped ones.

    Raises `BundleError` at the first that cannot be loaded.
    """
    return [_summarise(load_bundle(folder)) for folder in (shipped_bundles() if folders is None else folders)]


def _summarise(bundle: Bundle) -> BundleSummary:
    manifest = bundle.manifest
    shape = " x ".join(str(size) for size in manifest.input.shape)
    parameters = sum(tensor.size for tensor in bundle.weights.values())
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


def _read(path: Path, limit: int, error: type[BundleError]) -> bytes:
    # A FIFO or a device node would block or never end.
    if not path.is_file():
        raise BundleNotFoundError(f"{path} is missing or not a regular file: a bundle is a folder with this file in it")
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise error(f"{path} is larger than the {limit:,} bytes that it can need")
    return content


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


def _parse_weights(content: bytes, wanted: Mapping[str, TensorSpec], path: Path) -> Mapping[str, NDArray[Any]]:
    try:
        found = dict(safetensors.deserialize(content))  # type: ignore[no-untyped-call]
    except (SafetensorError, ValueError) as error:
        raise WeightsError(f"{path} is not a safetensors file: {error}") from None
    if found.keys() != wanted.keys():
        name = min(found.keys() ^ wanted.keys())
        verdict = "is missing" if name in wanted else "is not one that the architecture has"
        raise WeightsError(f"{path}: tensor {name!r} {verdict}")
    return {name: _as_array(tensor, wanted[name], f"{path}: tensor {name!r}") for name, tensor in found.items()}


def _as_array(tensor: Mapping[str, Any], wanted: TensorSpec, where: str) -> NDArray[Any]:
    """Return a tensor's values; weights may be stored in half the size that they are served in."""
    shape, stored = tuple(tensor["shape"]), str(tensor["dtype"])
    if shape != wanted.shape:
        raise WeightsError(f"{where} has shape {list(shape)}, the architecture needs {list(wanted.shape)}")
    dtype = STORED_AS.get(stored)
    halved = stored in HALF_DTYPES and wanted.dtype == "float32"
    if dtype != wanted.dtype and not halved:
        raise WeightsError(f"{where} holds {dtype or stored}, the architecture needs {wanted.dtype}")
    if stored == "BF16":  # the upper half of a float32; NumPy has no such dtype
        values = (np.frombuffer(tensor["data"], "<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        values = np.frombuffer(tensor["data"], np.dtype(HALF_DTYPES.get(stored, wanted.dtype)).newbyteorder("<"))
    if not np.isfinite(values).all():
        raise WeightsError(f"{where} holds values that are not finite")
    return values.astype(wanted.dtype).reshape(shape)
