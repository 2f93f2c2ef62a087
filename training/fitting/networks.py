"""New networks, to be fitted."""

from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from inference.architectures import build
from training.fitting.fit_settings import FitError
from training.wording.phrases import first_error


def new_network(architecture: str, seed: int, **arguments: Any) -> nn.Module:
    """Build a network whose initial weights are a function of `seed`; the caller's random state is unchanged.

    Raises `FitError` for arguments that the architecture does not take.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return build(architecture, **arguments)
        except ValidationError as error:
            raise FitError(f"no network {architecture} can be built so: {first_error(error)}") from None
