"""The networks that a bundle may name, each with the arguments that it accepts.

A bundle's manifest is not trusted to run code. It names an architecture of this closed list and gives arguments, which
each architecture's model checks and bounds before anything is allocated.

Entries are imported on first use: importing PyTorch takes seconds and hundreds of megabytes, which a worker saves if
another engine computes its network.
"""

from __future__ import annotations

import functools
import math
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inference.architectures.arguments import Arguments

if TYPE_CHECKING:
    from torch import nn

__all__ = ["ARCHITECTURES", "Architecture", "Arguments", "build", "count_parameters"]


@dataclass(frozen=True)
class Architecture:
    """An entry of the closed list: the classes that check the arguments and build the network, as `module:class`."""

    arguments_name: str
    module_name: str

    @functools.cached_property
    def arguments(self) -> type[Arguments]:
        """The class that checks the arguments."""
        found: type[Arguments] = pkgutil.resolve_name(self.arguments_name)
        return found

    @functools.cached_property
    def module(self) -> Callable[[Any], nn.Module]:
        """The class that builds the network from its arguments."""
        found: Callable[[Any], nn.Module] = pkgutil.resolve_name(self.module_name)
        return found


def _of(file: str, module: str, arguments_file: str = "") -> Architecture:
    return Architecture(f"{__name__}.{arguments_file or file}:{module}Arguments", f"{__name__}.{file}:{module}")


ARCHITECTURES: Mapping[str, Architecture] = {
    "har-cnn": _of("har", "HarCnn", "har_arguments"),
    "text-cnn": _of("text", "TextCnn"),
    "glove-cnn": _of("text", "GloveCnn"),
    "recurrent": _of("recurrent", "Recurrent"),
    "constant": _of("constant", "Constant"),
}


def build(name: str, **arguments: Any) -> nn.Module:
    """Build an architecture with freshly initialised weights, in training mode.

    Raises `KeyError` if there is no such architecture and `pydantic.ValidationError` if an argument is wrong.
    """
    architecture = ARCHITECTURES[name]
    return architecture.module(architecture.arguments.model_validate(arguments))


def count_parameters(module: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(math.prod(parameter.shape) for parameter in module.parameters())
