"""What the arguments of all architectures have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Classes = Annotated[int, Field(ge=2, le=1_000)]
Dropout = Annotated[float, Field(ge=0.0, lt=1.0)]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A parameter or buffer of a network: its shape, and its dtype as NumPy names it."""

    shape: tuple[int, ...]
    dtype: str = "float32"


class Arguments(BaseModel):
    """What every architecture says of itself before it is built: a frame's shape and the number of labels."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    classes: Classes = 6

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one frame."""
        raise NotImplementedError

    @property
    def input_dtype(self) -> str:
        """The NumPy dtype of a frame's values: `float32`, or `int32` where there is a limit to them."""
        return "float32" if self.input_limit is None else "int32"

    @property
    def input_limit(self) -> int | None:
        """The exclusive upper bound of int32 values, whose lower bound is 0; None for float32, which is unbounded."""
        return None

    @property
    def tensors(self) -> Mapping[str, TensorSpec] | None:
        """The tensors of a bundle's weights, by name; None if only the built network knows them (needs PyTorch)."""
        return None

    @property
    def quantised(self) -> Sequence[str]:
        """The layers that int8 applies to; a bundle with their activation ranges can be served at int8."""
        return ()
