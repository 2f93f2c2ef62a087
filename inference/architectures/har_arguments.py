"""The arguments of `har-cnn`, in their own file because not every engine needs PyTorch, as `har.py` does."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

from pydantic import Field

from inference.architectures.arguments import Arguments, Dropout, TensorSpec

CHANNELS: Final = (100, 100, 160, 160)
"""Output channels of each convolution."""
TAPS: Final = 10
"""Kernel size of each convolution, in readings."""


class HarCnnArguments(Arguments):
    """`har-cnn`: frames of `slots` readings of `axes` axes. The defaults are the article's."""

    # Each kernel of 10 shortens its input by 9: (slots - 18) // 3 must leave 19 for the last two.
    slots: Annotated[int, Field(ge=75, le=4_096)] = 80
    axes: Annotated[int, Field(ge=1, le=64)] = 3
    dropout: Dropout = 0.5

    @property
    def input_shape(self) -> tuple[int, ...]:
        """One frame is (slots, axes)."""
        return (self.slots, self.axes)

    @property
    def tensors(self) -> Mapping[str, TensorSpec]:
        """The four convolutions and the dense layer behind them."""
        shapes: dict[str, tuple[int, ...]] = {}
        for number, (ins, outs) in enumerate(itertools.pairwise((self.axes, *CHANNELS)), start=1):
            shapes |= {f"conv{number}.weight": (outs, ins, TAPS), f"conv{number}.bias": (outs,)}
        shapes |= {"output.weight": (self.classes, CHANNELS[-1]), "output.bias": (self.classes,)}
        return {name: TensorSpec(shape) for name, shape in shapes.items()}

    @property
    def quantised(self) -> Sequence[str]:
        """All convolutions but the first, which has few, signed inputs and a fortieth of the work."""
        return ("conv2", "conv3", "conv4")
