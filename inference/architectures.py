"""The networks that a bundle may name, each with the arguments that it accepts.

A bundle's manifest is not trusted to run code: it names an architecture of this closed list and gives
arguments, which a model per architecture checks and bounds before anything is allocated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

Axis = Annotated[int, Field(ge=1, le=65_536, strict=True)]
Classes = Annotated[int, Field(ge=2, le=1_000)]


class Arguments(BaseModel):
    """What every architecture says of itself before it is built: a frame's shape and how many labels."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    classes: Classes = 6

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one frame."""
        raise NotImplementedError

    @property
    def input_dtype(self) -> str:
        """The NumPy dtype of a frame's values."""
        return "float32"


class HarCnnArguments(Arguments):
    """`har-cnn`: frames of `slots` readings of `axes` axes. The defaults are the article's."""

    # Each kernel of 10 shortens its input by 9: (slots - 18) // 3 must leave 19 for the last two.
    slots: Annotated[int, Field(ge=75, le=4_096)] = 80
    axes: Annotated[int, Field(ge=1, le=64)] = 3
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5

    @property
    def input_shape(self) -> tuple[int, ...]:
        """One frame is (slots, axes)."""
        return (self.slots, self.axes)


class ConstantArguments(Arguments):
    """`constant`: frames of any shape, all given the same answer."""

    # A manifest's JSON gives a list.
    shape: Annotated[tuple[Axis, ...], Field(min_length=1, max_length=4, strict=False)] = (80, 3)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """As the bundle says."""
        return self.shape


class ConvRelu(nn.Conv1d):
    """A 1-D convolution without padding and its ReLU, on sequences laid out (n, channels, 1, length).

    The extra dimension lets PyTorch keep channels last in memory, the layout that oneDNN and cuDNN are fastest
    in and that three dimensions cannot say. The weights keep the shape of an ordinary `Conv1d`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(n, in_channels, 1, length) to (n, out_channels, 1, length - kernel_size + 1)."""
        return torch.relu(F.conv2d(x, self.weight.unsqueeze(2), self.bias))


class HarCnn(nn.Module):
    """The 1-D convolutional network of the HAR article: 520,486 parameters, as published.

    Input: float32 (n, slots, axes), or flat (n, slots * axes) in the article's order, reading by reading.
    Output: logits (n, classes).
    Source: Ackermann, "Introduction to 1D Convolutional Neural Networks in Keras for Time Sequences" (2018).
    """

    def __init__(self, arguments: HarCnnArguments) -> None:
        super().__init__()
        self.frame_shape = arguments.input_shape
        self.conv1 = ConvRelu(arguments.axes, 100, kernel_size=10)
        self.conv2 = ConvRelu(100, 100, kernel_size=10)
        self.conv3 = ConvRelu(100, 160, kernel_size=10)
        self.conv4 = ConvRelu(160, 160, kernel_size=10)
        self.dropout = nn.Dropout(arguments.dropout)
        self.output = nn.Linear(160, arguments.classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Logits (n, classes) of `frames`."""
        x = frames.reshape(-1, 1, *self.frame_shape).permute(0, 3, 1, 2)
        x = F.max_pool2d(self.conv2(self.conv1(x)), (1, 3))
        x = self.conv4(self.conv3(x))
        # The sum over time and what follows are in float32 even where the convolutions are not.
        logits: Tensor = self.output(self.dropout(x.mean(dim=(2, 3), dtype=torch.float32)))
        return logits


class Constant(nn.Module):
    """The same logits for every frame: runs the pipeline without its model.

    Input: (n, ...). Output: logits (n, classes).
    """

    def __init__(self, arguments: ConstantArguments) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(arguments.classes))

    def forward(self, frames: Tensor) -> Tensor:
        """Logits (n, classes), whatever `frames` hold."""
        return self.logits.expand(frames.shape[0], -1)


@dataclass(frozen=True, slots=True)
class Architecture:
    """One entry of the closed list: how its arguments are checked and how it is built from them."""

    arguments: type[Arguments]
    module: Callable[[Any], nn.Module]


ARCHITECTURES: Mapping[str, Architecture] = {
    "har-cnn": Architecture(HarCnnArguments, HarCnn),
    "constant": Architecture(ConstantArguments, Constant),
}


def build(name: str, **arguments: Any) -> nn.Module:
    """Build an architecture with freshly initialised weights, in training mode.

    Raises `KeyError` if there is no such architecture and `pydantic.ValidationError` if an argument is wrong.
    """
    architecture = ARCHITECTURES[name]
    return architecture.module(architecture.arguments.model_validate(arguments))


def count_parameters(module: nn.Module) -> int:
    """How many numbers training may change."""
    return sum(math.prod(parameter.shape) for parameter in module.parameters())
