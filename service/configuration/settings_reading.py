"""Reads settings: from flags, then STRIDECAST_* variables, then a TOML file, then the defaults.

An unusable value is refused with the setting's name, the value that was given, and what would be accepted.
"""

import argparse
import difflib
import functools
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import CliPositionalArg, CliSettingsSource
from pydantic_settings import SettingsError as UnusableFlagsError

from service.configuration.settings import ENVIRONMENT_PREFIX, NESTED, Command, Settings, SettingsError
from service.configuration.settings_environment import flattened, variable_of

POSITIONAL = get_args(CliPositionalArg[str])[1]  # marks a field as positional arguments

NEAR, AS_NEAR = 0.6, 0.05  # of a difflib ratio

AnyCommand = TypeVar("AnyCommand", bound=Command)


def load(command: type[AnyCommand], arguments: list[str], program: str) -> AnyCommand:
    """Read a command's settings from flags, environment and the TOML file named by ``--config``.

    ``program`` is its name in ``--help``. Raises SettingsError for the file, flags or any value that can't be used.
    """
    arguments, plain_words = _cut_at_dashes(command, arguments)
    config, arguments = _take_config(arguments)
    from_file = _read_toml(config) if config else {}
    _refuse_unknown_in_file(command, from_file, str(config))
    _refuse_unknown_variables(command, os.environ)
    _refuse_unknown_flags(command, arguments)
    lists, arguments = _take_lists(command, arguments, plain_words)
    given: dict[str, Any] = {name: value for name, value in from_file.items() if name in command.model_fields} | lists
    help_of = functools.partial(_Help, unused=command.unused)
    try:
        flags = CliSettingsSource[Any](
            command, cli_prog_name=program, formatter_class=help_of, cli_exit_on_error=False
        )(args=arguments)
        return command(_cli_settings_source=flags, **given)
    except ValidationError as error:
        sources = _sources(arguments, os.environ, from_file, str(config))
        raise SettingsError("\n".join(_explain(command, error, sources))) from None
    except UnusableFlagsError as error:
        raise SettingsError(_said_of_flags(str(error))) from None


def _said_of_flags(said: str) -> str:
    """Put what argparse says of flags in our words."""
    said = said.removeprefix("error parsing CLI: ").removeprefix("argument ")
    unrecognised = "unrecognized arguments: "
    if said.startswith(unrecognised):
        return f"{said.removeprefix(unrecognised)!r} belongs to no flag; --help lists all"
    flag, colon, problem = said.partition(": ")
    if colon and problem.startswith("expected one argument"):
        return f"{flag} needs a value after it"
    return said


def _sources(
    arguments: list[str], environment: Mapping[str, str], from_file: Mapping[str, Any], path: str
) -> dict[str, str]:
    """Return where settings that no flag gives come from, by the name of their variable: that, or the file's path."""
    sources = {variable_of(name): path for name, _ in flattened(from_file)}
    sources |= {name.upper(): name for name in environment if name.upper().startswith(ENVIRONMENT_PREFIX)}
    for argument in arguments:
        sources.pop(variable_of(argument.partition("=")[0].lstrip("-").replace("-", "_")), None)
    return sources


class _Help(argparse.RawDescriptionHelpFormatter):
    """Omits flags from the usage line, settings that the command doesn't use, and defaults that are none.

    The description of a flag without a default says what happens without it.
    """

    def __init__(self, prog: str, unused: tuple[str, ...]) -> None:
        super().__init__(prog)
        self._unused = unused

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[argparse._MutuallyExclusiveGroup],
        prefix: str | None = None,
    ) -> None:
        """Show how to call the command; its dozens of flags are listed below."""
        words = [self._format_args(action, action.dest) for action in actions if not action.option_strings]
        super().add_usage(" ".join(["%(prog)s", "[--config FILE] [flags]", *words]), actions, groups, prefix)

    def add_argument(self, action: argparse.Action) -> None:
        """Describe a flag; a group whose flags are all omitted has no heading."""
        if not action.dest.startswith(self._unused):
            super().add_argument(action)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return re.sub(r" \(default: (None|\[\])\)$", "", super()._get_help_string(action) or "")


def _cut_at_dashes(command: type[BaseModel], arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return the arguments before ``--`` and those after it, which are never flags."""
    if _positional(command) is None or "--" not in arguments:
        return arguments, []
    dashes = arguments.index("--")
    return arguments[:dashes], arguments[dashes + 1 :]


def _take_config(arguments: list[str]) -> tuple[Path | None, list[str]]:
    rest: list[str] = []
    config: Path | None = None
    words = iter(arguments)
    for word in words:
        if word == "--config":
            value = next(words, None)
            if value is None:
                raise SettingsError("--config needs the path of a TOML file after it")
            config = Path(value)
        elif word.startswith("--config="):
            config = Path(word.removeprefix("--config="))
        else:
            rest.append(word)
    return config, rest


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"--config {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(f"--config {path} is not TOML: {error}") from None


def _refuse_unknown_in_file(command: type[BaseModel], given: Mapping[str, Any], path: str) -> None:
    known = _settings_of(command)
    for name, value in flattened(given):
        if name not in known:
            raise SettingsError(f"{name}{_shown_unknown(name, value)} in {path} is no setting{_instead(name, known)}")


def _refuse_unknown_variables(command: type[BaseModel], environment: Mapping[str, str]) -> None:
    known = {variable_of(name) for name in _settings_of(command)}
    for name, value in environment.items():
        if name.startswith(ENVIRONMENT_PREFIX) and name.upper() not in known:
            raise SettingsError(f"{name}{_shown_unknown(name, value)} is no setting{_instead(name, known)}")


def _refuse_unknown_flags(command: type[BaseModel], arguments: list[str]) -> None:
    names = {name.replace("_", "-") for name, _ in leaves(command)}
    known = {("-" if len(name) == 1 else "--") + name for name in names} | {"--help", "-h", "--config"}
    known.discard(f"--{_positional(command)}")
    for argument in arguments:
        flag = argument.partition("=")[0].replace("_", "-")
        if argument.startswith("--") and flag not in known and "--" + flag.removeprefix("--no-") not in known:
            near = near_names(flag, known)
            instead = f"did you mean {' or '.join(near)}?" if near else "--help lists all"
            raise SettingsError(f"{flag} is no flag of this command; {instead}")


def _instead(name: str, known: Iterable[str]) -> str:
    near = near_names(name, known)
    return f"; did you mean {' or '.join(near)}?" if near else f"; there are: {', '.join(sorted(known))}"


def near_names(name: str, known: Iterable[str]) -> list[str]:
    """Return the name that was probably meant, and another one if that is about as near; none if nothing is."""
    near = difflib.get_close_matches(name, list(known), n=2, cutoff=NEAR)
    ratios = [difflib.SequenceMatcher(None, each, name).ratio() for each in near]
    return [each for each, ratio in zip(near, ratios, strict=True) if ratio >= ratios[0] - AS_NEAR]


def _shown_unknown(name: str, value: object) -> str:
    """Show the value of an unknown setting, unless it may be a secret under a mistyped name, or a group with one."""
    name = name.lower().removeprefix(ENVIRONMENT_PREFIX.lower()).replace(NESTED, ".")
    near = difflib.get_close_matches(name, [known for known, _ in leaves(Settings)], n=1, cutoff=0.5)
    words = ("kafka", "sasl", "ssl", "pass", "pasw", "pwd", "secret", "token", "key", "{")
    if (near and near[0].startswith("kafka.")) or any(word in f"{name} {value!r}".lower() for word in words):
        return ""
    return f" = {value!r}"[:200]


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield each setting with its full name, such as ``kafka.group_id``."""
    for name, field in model.model_fields.items():
        if _is_group(field):
            yield from leaves(field.annotation, f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            yield prefix + (field.alias or name), field


def _settings_of(command: type[BaseModel]) -> set[str]:
    """Return the names that a file or the environment may have: common ones and those of the command's own groups."""
    return {name for name, _ in leaves(Settings)} | {name for name, _ in leaves(command) if "." in name}


def _is_group(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _take_lists(
    command: type[BaseModel], arguments: list[str], plain_words: list[str]
) -> tuple[dict[str, list[str]], list[str]]:
    """Split off the lists among the arguments, such as ``--data A B``; return the lists and the remaining arguments.

    Words without a flag are the positional list, if the command has one, and so are ``plain_words``. Lists aren't left
    to pydantic-settings, because it interprets commas, quotes and backslashes in their items.
    """
    given: dict[str, list[str]] = {
        name: [] for name, field in command.model_fields.items() if get_origin(field.annotation) is list
    }
    positional = given.get(_positional(command) or "")
    lists = {"--" + name.replace("_", "-"): items for name, items in given.items() if items is not positional}
    switches = {"--" + name.replace("_", "-") for name, field in leaves(command) if field.annotation is bool}
    switches |= {switch.replace("--", "--no-", 1) for switch in switches} | {"--help"}
    words: list[str] = []
    filling: list[str] | None = positional
    for argument in arguments:
        if argument.startswith("--"):
            flag, equals, value = argument.partition("=")
            flag = flag.replace("_", "-")
            filling = lists.get(flag)
            if filling is None:
                words.append(flag + equals + value)
                filling = positional if equals or flag in switches else None
            elif equals:
                filling.append(value)
        elif filling is None or argument == "-h":
            words.append(argument)
            filling = positional
        else:
            filling.append(argument)
    if positional is not None:
        positional += plain_words
    return {name: items for name, items in given.items() if items}, words


def _positional(command: type[BaseModel]) -> str | None:
    """Return the name of the command's positional list, if it has one."""
    return next((name for name, field in command.model_fields.items() if POSITIONAL in field.metadata), None)


def _explain(command: type[BaseModel], error: ValidationError, sources: Mapping[str, str]) -> Iterator[str]:
    for problem in error.errors(include_url=False):
        location = [str(part) for part in problem["loc"]]
        field = _find(command, location)
        if problem["type"] == "missing":
            what = f": {field.description}" if field is not None and field.description else ""
            yield f"--{'.'.join(location).replace('_', '-')} is required{what}"
            continue
        # An address may hold a password, too.
        hidden = _holds_secrets(field) or location[-1].endswith("_url")
        given = "" if hidden else f" = {problem['input']!r}"[:200]
        accepts = f" ({field.description})" if field is not None and field.description else ""
        message = "not in the form that is accepted" if problem["type"] == "string_pattern_mismatch" else problem["msg"]
        message = message.removeprefix("Value error, ")
        names = [".".join(location[:length]) for length in range(len(location), 0, -1)]
        place = next((f" in {sources[variable_of(name)]}" for name in names if variable_of(name) in sources), "")
        yield f"{'.'.join(location)}{given}{place}: {message[0].lower()}{message[1:]}{accepts}"


def _find(model: type[BaseModel], location: list[str]) -> FieldInfo | None:
    field = model.model_fields.get(location[0])
    if field is not None and _is_group(field) and len(location) > 1:
        return _find(field.annotation, location[1:])  # type: ignore[arg-type]
    return field


def _holds_secrets(field: FieldInfo | None) -> bool:
    """Return whether a setting is a secret, or a group with one."""
    if field is not None and _is_group(field):
        return any(_holds_secrets(inner) for inner in field.annotation.model_fields.values())  # type: ignore[union-attr]
    return field is not None and SecretStr in (field.annotation, *get_args(field.annotation))
