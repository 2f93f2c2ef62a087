"""A bundle's manifest, checked and bounded before anything of it is used; and a bundle's errors.

Each error's `str` is one sentence that names the file, the field and the remedy:

    BundleError
    ├── BundleNotFoundError     no such folder, or a file of it is missing
    ├── ManifestError           bundle.json is not what `Manifest` describes
    ├── WeightsError            weights.safetensors does not fit the architecture
    ├── VocabularyError         vocabulary.txt is malformed or does not fit the architecture
    └── GoldenError             the model does not give the answers that the manifest promises
"""

from __future__ import annotations

import datetime
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from inference.architectures import ARCHITECTURES, Arguments
from inference.architectures.arguments import TensorSpec

if TYPE_CHECKING:
    from torch import nn

# No float16: a reading that the contract allows (1000 m/s^2) can overflow it inside the network, and the resulting NaN
# would stop the core.
Precision = Literal["float32", "bfloat16", "int8"]

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Text = Annotated[str, Field(min_length=1, max_length=2_000)]
Ratio = Annotated[float, Field(gt=0.0, le=0.05)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
# Bounded so that no float32 computed with a range becomes 0 or infinite.
SMALLEST_RANGE, WIDEST_RANGE = 1e-6, 1e6
Range = Annotated[float, Field(ge=SMALLEST_RANGE, le=WIDEST_RANGE)]


class BundleError(Exception):
    """A bundle cannot be used; the text says which, where and why."""


class BundleNotFoundError(BundleError):
    """There is no such bundle, or a file of it is missing."""


class ManifestError(BundleError):
    """`bundle.json` is malformed or contradicts itself."""


class WeightsError(BundleError):
    """`weights.safetensors` does not hold what the architecture needs."""


class VocabularyError(BundleError):
    """`vocabulary.txt` is malformed, or does not hold a word for each of the architecture's ids."""


class GoldenError(BundleError):
    """The model does not reproduce the golden answers."""


class _StrictModel(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class ArchitectureChoice(_StrictModel):
    """One of `ARCHITECTURES` and its arguments."""

    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        if self.name not in ARCHITECTURES:
            raise ValueError(f"{self.name!r} is not one of {', '.join(ARCHITECTURES)}")
        self.checked()
        return self

    def checked(self) -> Arguments:
        """Return the arguments, with their defaults."""
        return ARCHITECTURES[self.name].arguments.model_validate(self.arguments)

    def build(self) -> nn.Module:
        """Return a module with freshly initialised weights."""
        return ARCHITECTURES[self.name].module(self.checked())

    def skeleton(self) -> nn.Module:
        """Return a module on the device `meta`, without memory for its weights, which are to be assigned to it."""
        from inference.architectures.skeleton import skeleton  # late: some engines don't need PyTorch

        return skeleton(self.build)

    def tensors(self) -> Mapping[str, TensorSpec]:
        """Return names, shapes and dtypes of the network's tensors, without allocating them."""
        declared = self.checked().tensors
        return self.tensors_when_built() if declared is None else declared

    def tensors_when_built(self) -> Mapping[str, TensorSpec]:
        """Return the same from a network that is built for it, which takes PyTorch."""
        state = self.skeleton().state_dict()
        return {
            name: TensorSpec(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
            for name, tensor in state.items()
        }


class Input(_StrictModel):
    """One frame, as the core's callers submit it."""

    shape: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1, max_length=4)]
    dtype: Literal["float32", "int32"] = "float32"


class Normalisation(_StrictModel):
    """Per axis, in the data's units: the network sees `(value - mean) / std`."""

    mean: Annotated[tuple[float, ...], Field(min_length=1, max_length=64)]
    std: Annotated[tuple[Annotated[float, Field(gt=0.0)], ...], Field(min_length=1, max_length=64)]


class DataSet(_StrictModel):
    """A file that the weights were fitted to."""

    name: Text
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Training(_StrictModel):
    """How to reproduce the weights."""

    data: Annotated[tuple[DataSet, ...], Field(max_length=100)]
    command: Annotated[str, Field(min_length=1, max_length=16_000)]  # it may name many labels
    seed: Annotated[int, Field(ge=0)]
    date: datetime.date


class Population(_StrictModel):
    """Statistics of the training data, for a worker to measure drift against.

    `tenths`: for each feature, the nine deciles of the training frames. `shares`: of each label.
    """

    tenths: Annotated[
        dict[Name, Annotated[tuple[float, ...], Field(min_length=9, max_length=9)]], Field(min_length=1, max_length=20)
    ]
    shares: tuple[Probability, ...]

    @model_validator(mode="after")
    def _bounds_ascend(self) -> Self:
        for name, bounds in self.tenths.items():
            if any(a > b for a, b in itertools.pairwise(bounds)):
                raise ValueError(f"tenths of {name} must ascend")
        return self


class Tolerance(_StrictModel):
    """The largest allowed difference of probabilities and familiarity from the golden ones, by the precision served."""

    float32: Ratio = 1e-4
    # With convolutions in bfloat16, the familiarity of 5,591 recorded frames was off by at most 0.023. That of golden
    # frames, shaken until it was about 0.5, where it is steepest, was off by 0.030.
    bfloat16: Ratio = 0.04
    # The golden frames of three fitted `har-cnn` were off by at most 0.003, 0.006 and 0.023. With ranges a quarter as
    # wide or less, five times as wide or more, or swapped between layers, the last one's were off by 0.19 to 0.49.
    int8: Ratio = 0.05


class Golden(_StrictModel):
    """A few frames, flattened, and their float32 answers: probabilities and, if the bundle has it, familiarity.

    A familiarity of 0 or 1 proves little: some of the frames should have neither.
    """

    input: Annotated[tuple[tuple[float, ...], ...], Field(min_length=1, max_length=16)]
    probabilities: Annotated[tuple[tuple[float, ...], ...], Field(min_length=1, max_length=16)]
    familiarity: Annotated[tuple[Annotated[float, Field(ge=0.0, le=1.0)], ...], Field(max_length=16)] = ()
    tolerance: Tolerance = Tolerance()


class Description(_StrictModel):
    """The part of the manifest that a model's maker writes."""

    format: Literal[1] = 1
    name: Name
    version: Name
    architecture: ArchitectureChoice
    input: Input
    labels: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=100)], ...], Field(min_length=2)]
    # How texts, or signals, become frames: used by the callers, stored here so that training and serving agree.
    framing: dict[str, JsonValue] | None = None
    normalisation: Normalisation | None = None
    temperature: Annotated[float, Field(ge=0.01, le=100.0)] = 1.0
    # Transition probabilities from each label (row) to each (column), one window later, for callers with sequences.
    transitions: Annotated[tuple[tuple[Probability, ...], ...], Field(max_length=64)] | None = None
    # Whether the network was trained with out-of-distribution frames, so that its logits give the familiarity.
    tells_strangers: bool = False
    population: Population | None = None
    # For int8: the upper end of the input range of each of the architecture's `quantised` layers.
    activation_ranges: dict[Name, Range] | None = None
    training: Training
    metrics: Annotated[dict[Name, float], Field(max_length=200)] = Field(default_factory=dict)

    @property
    def columns(self) -> int:
        """Numbers in an engine's answer to a frame: a probability for each label and, if it has one, familiarity."""
        return len(self.labels) + self.tells_strangers

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        arguments = self.architecture.checked()
        if arguments.input_shape != self.input.shape or arguments.input_dtype != self.input.dtype:
            raise ValueError(
                f"input is {self.input.dtype} {list(self.input.shape)}, but the architecture takes "
                f"{arguments.input_dtype} {list(arguments.input_shape)}"
            )
        if len(self.labels) != arguments.classes or len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels must be {arguments.classes} different names, as many as the architecture answers")
        if self.normalisation is not None:
            self._normalisation_fits(self.normalisation)
        if self.transitions is not None:
            self._transitions_fit(self.transitions)
        if self.population is not None and len(self.population.shares) != len(self.labels):
            raise ValueError(f"population.shares must be {len(self.labels)} shares, one for each label")
        if self.activation_ranges is not None:
            self._ranges_fit(self.activation_ranges, arguments.quantised)
        return self

    def _normalisation_fits(self, normalisation: Normalisation) -> None:
        if self.input.dtype != "float32":
            raise ValueError("normalisation is for float32 input only: leave it out")
        axes = self.input.shape[-1]
        if len(normalisation.mean) != axes or len(normalisation.std) != axes:
            raise ValueError(f"normalisation needs a mean and a std for each of the {axes} axes")

    def _transitions_fit(self, transitions: tuple[tuple[float, ...], ...]) -> None:
        labels = len(self.labels)
        if [len(row) for row in transitions] != [labels] * labels:
            raise ValueError(f"transitions must have {labels} rows of {labels} probabilities, one for each label")
        if any(abs(sum(row) - 1.0) > 1e-3 for row in transitions):
            raise ValueError("each row of transitions must add up to 1")

    def _ranges_fit(self, ranges: Mapping[str, float], layers: Sequence[str]) -> None:
        if not layers:
            raise ValueError(f"{self.architecture.name} has no layers for int8: leave activation_ranges out")
        if ranges.keys() != set(layers):
            raise ValueError(f"activation_ranges must be one for each of the layers {', '.join(layers)}")


class Manifest(Description):
    """The content of `bundle.json`."""

    # Of `vocabulary.txt`: golden frames are ids, so no other check would notice the words of another model.
    vocabulary_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    golden: Golden

    @model_validator(mode="after")
    def _golden_fits(self) -> Self:
        size = math.prod(self.input.shape)
        if any(len(frame) != size for frame in self.golden.input):
            raise ValueError(f"golden.input must be frames of {size} values each, flattened")
        limit = self.architecture.checked().input_limit
        if limit is not None and not all(_is_id(value, limit) for frame in self.golden.input for value in frame):
            raise ValueError(f"golden.input must be whole numbers from 0 to {limit - 1}, the architecture's ids")
        expected = self.golden.probabilities
        if len(expected) != len(self.golden.input) or any(len(row) != len(self.labels) for row in expected):
            raise ValueError("golden.probabilities must be one row for each golden frame, one value for each label")
        if len(self.golden.familiarity) != (len(expected) if self.tells_strangers else 0):
            raise ValueError(
                "golden.familiarity must be one value for each golden frame if the bundle tells_strangers, else none"
            )
        return self

    def golden_frames(self) -> NDArray[Any]:
        """Return the golden input, (m, *shape) in the input's dtype."""
        return np.array(self.golden.input, dtype=self.input.dtype).reshape(-1, *self.input.shape)

    def golden_answers(self) -> NDArray[np.float64]:
        """Return the expected answers to it, (m, columns)."""
        probabilities = np.array(self.golden.probabilities, dtype=np.float64)
        if not self.tells_strangers:
            return probabilities
        return np.column_stack([probabilities, np.array(self.golden.familiarity, dtype=np.float64)])


def _is_id(value: float, limit: int) -> bool:
    return value.is_integer() and 0 <= value < limit
