"""`constant`: runs the pipeline without a model."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from inference.architectures.arguments import Arguments

Axis = Annotated[int, Field(ge=1, le=65_536, strict=True)]


class ConstantArguments(Arguments):
    """`constant`: frames of any shape, all with the same answer."""

    # A manifest's JSON gives a list.
    shape: Annotated[tuple[Axis, ...], Field(min_length=1, max_length=4, strict=False)] = (80, 3)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape that the bundle gives."""
        return self.shape


class Constant(nn.Module):
    """The same logits for every frame, to run the pipeline without a model.

    Input: (n, ...). Output: logits (n, classes).
    """

    def __init__(self, arguments: ConstantArguments) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(arguments.classes))

    def forward(self, frames: Tensor) -> Tensor:
        """Return logits (n, classes), whatever `frames` hold."""
        return self.logits.expand(frames.shape[0], -1)
