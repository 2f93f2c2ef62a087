"""Settings on their way to another process: its environment."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import SecretStr

from service.settings import ENVIRONMENT_PREFIX, NESTED, Settings


def environment(settings: Settings) -> dict[str, str]:
    """Write settings as the variables that another process reads them from."""
    shared = flattened(settings.model_dump(include=set(Settings.model_fields)))
    return {variable_of(name): _written(value) for name, value in shared if value is not None}


def _written(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def variable_of(name: str) -> str:
    """Return the variable of a setting such as ``kafka.group_id``."""
    return ENVIRONMENT_PREFIX + name.replace(".", NESTED).upper()


def flattened(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give each value of nested settings by its full name."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from flattened(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
