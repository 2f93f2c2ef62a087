"""`har-cnn`: activities from accelerometer frames."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from inference.architectures.arguments import Arguments, Dropout
from inference.architectures.layers import ConvRelu


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
