"""Passes settings to another process as environment variables."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import SecretStr

from service.configuration.settings import ENVIRONMENT_PREFIX, NESTED, Settings


def environment(settings: Settings) -> dict[str, str]:
    """Return settings as environment variables."""
    shared = flattened(settings.model_dump(include=set(Settings.model_fields)))
    return {variable_of(name): _written(value) for name, value in shared if value is not None}


def _written(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def variable_of(name: str) -> str:
    """Return the name of the variable of a setting such as ``kafka.group_id``."""
    return ENVIRONMENT_PREFIX + name.replace(".", NESTED).upper()


def flattened(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Return the values of nested settings by their full names."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from flattened(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
