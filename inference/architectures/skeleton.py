"""Networks whose weights come from elsewhere: built without allocating or initialising any."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


class _DrawNothing(TorchFunctionMode):
    """Skips weight initialisation.

    To draw from a normal distribution on the device `meta`, which fills nothing, PyTorch imports sympy for 3 seconds.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if getattr(func, "__module__", "") == nn.init.__name__:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def skeleton(build: Callable[[], nn.Module]) -> nn.Module:
    """Return what `build` builds, on the device `meta`; assign weights by `load_state_dict(..., assign=True)`."""
    with torch.device("meta"), _DrawNothing():
        return build()
