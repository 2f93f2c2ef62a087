"""A 2-D network for spectrograms. In the program itself it would be `inference/architectures/spectrogram.py`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from inference.architectures.arguments import Arguments


class SpectrogramCnnArguments(Arguments):
    """`spectrogram-cnn`: frames of `times` by `bins`."""

    times: Annotated[int, Field(ge=16, le=1_024)] = 32
    bins: Annotated[int, Field(ge=16, le=1_024)] = 64

    @property
    def input_shape(self) -> tuple[int, ...]:
        """One frame is (times, bins)."""
        return (self.times, self.bins)


class SpectrogramCnn(nn.Module):
    """Three 2-D convolutions, the maximum of each map, one dense layer.

    Input: float32 (n, times, bins). Output: logits (n, classes).
    """

    def __init__(self, arguments: SpectrogramCnnArguments) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, stride=2), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, stride=2), nn.ReLU()),
            *(nn.Conv2d(32, 32, 3), nn.ReLU()),
        )
        self.output = nn.Linear(32, arguments.classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Logits (n, classes) of `frames`."""
        logits: Tensor = self.output(self.features(frames.unsqueeze(1)).amax(dim=(2, 3)))
        return logits
