"""Configurations: frozen dataclasses, read from TOML and written back resolved.

A dataclass holds every field with its unit and default in one place. Tables of the file are nested
dataclasses, arrays are tuples. TOML has no null: the text "none" stands for None where a field
allows it.
"""

import dataclasses
import math
import os
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from framelets.core.choices import refuse_unknown

ConfigT = TypeVar("ConfigT")

_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "text",
}
_TOML_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "an array",
    tuple: "an array",
    dict: "a table",
}


def load_config(
    cls: type[ConfigT],
    path: str | os.PathLike[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> ConfigT:
    """Read a configuration; what the file and the overrides leave out keeps its default.

    Args:
        cls: The dataclass to make.
        path: A TOML file, or None for the defaults.
        overrides: Values that win over the file; nested, or with dotted keys: `{"scan.views": 60}`.

    Returns:
        The configuration, every value checked against the type of its field.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no TOML, a key is unknown (the nearest valid one is named) or
            missing, or a value is not among the choices or refused by the dataclass itself.
        TypeError: If a value is of the wrong type; the message names key, wanted and got.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Scan:
        ...     num_views: int = 60
        ...     photons_per_ray: float = 1e5
        >>> load_config(Scan, None, {"photons_per_ray": 20000})
        Scan(num_views=60, photons_per_ray=20000.0)
    """
    table: dict[str, Any] = {}
    if path is not None:
        table = _read_toml(Path(path))
    for key, value in (overrides or {}).items():
        _put(table, key.split("."), value)
    where = f" in {path}" if path is not None else ""
    config: ConfigT = _make(cls, table, "", where)
    return config


def dump_config(config: object) -> str:
    """Write a configuration, with every field, as TOML text that `load_config` reads back equal.

    Args:
        config: An instance of a dataclass.

    Raises:
        TypeError: If it is no dataclass, or holds a value that TOML cannot say.
    """
    import tomli_w

    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"config must be an instance of a dataclass, got {config!r}")
    return tomli_w.dumps(_plain(config))


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no config file {path}") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"config file must be a file, got the folder {path}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text file in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not TOML: {error}") from None


def _put(table: dict[str, Any], keys: list[str], value: object) -> None:
    """Set one value in nested tables, merging a table into the one that is there."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _put(table, [*keys, *key.split(".")], inner)
        return
    for key in keys[:-1]:
        inner_table = table.setdefault(key, {})
        if not isinstance(inner_table, dict):
            raise TypeError(f"{key} must be a table to set {'.'.join(keys)}, got {inner_table!r}")
        table = inner_table
    table[keys[-1]] = value


def _make(cls: Any, table: Mapping[str, Any], prefix: str, where: str) -> Any:  # noqa: ANN401
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    table_name = f"[{prefix[:-1]}]" if prefix else "config"
    for key in table:
        refuse_unknown(f"{table_name} key{where}", key, fields)
    for name, field in fields.items():
        no_default = dataclasses.MISSING
        required = field.default is no_default and field.default_factory is no_default
        if required and name not in table:
            raise ValueError(f"key {prefix}{name} is missing{where}")
    hints = typing.get_type_hints(cls)
    values = {
        key: _check(hints[key], value, f"{prefix}{key}", where) for key, value in table.items()
    }
    return cls(**values)


def _check(kind: Any, value: Any, key: str, where: str) -> Any:  # noqa: ANN401
    """Return the value as the type of its field wants it, or refuse it."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return _check_union(arguments, value, key, where)
    if origin is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in arguments):
            refuse_unknown(f"{key}{where}", str(value), [str(choice) for choice in arguments])
            raise _wrong_type(key, where, f"one of {arguments}", value)
        return value
    if origin is tuple:
        return _check_tuple(arguments, value, key, where)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise _wrong_type(key, where, "a table", value)
        return {k: _check(arguments[1], v, f"{key}.{k}", where) for k, v in value.items()}
    if dataclasses.is_dataclass(kind):
        if isinstance(value, typing.cast("type", kind)):
            return value
        if not isinstance(value, Mapping):
            raise _wrong_type(key, where, "a table", value)
        return _make(kind, value, f"{key}.", where)
    return _check_scalar(kind, value, key, where)


def _check_union(arguments: tuple[Any, ...], value: Any, key: str, where: str) -> Any:  # noqa: ANN401
    optional = type(None) in arguments
    if optional and (value is None or value == "none"):
        return None
    kinds = [kind for kind in arguments if kind is not type(None)]
    if len(kinds) == 1:
        return _check(kinds[0], value, key, where)
    for kind in kinds:
        try:
            return _check(kind, value, key, where)
        except (TypeError, ValueError):
            continue
    wanted = " or ".join(_KINDS.get(kind, str(kind)) for kind in kinds)
    raise _wrong_type(key, where, wanted, value)


def _check_tuple(arguments: tuple[Any, ...], value: Any, key: str, where: str) -> Any:  # noqa: ANN401
    if not isinstance(value, (list, tuple)):
        raise _wrong_type(key, where, "an array", value)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(arguments) != len(value):
        raise ValueError(f"{key}{where} must have {len(arguments)} entries, got {len(value)}")
    pairs = zip(arguments, value, strict=True)
    return tuple(
        _check(kind, entry, f"{key}[{index}]", where) for index, (kind, entry) in enumerate(pairs)
    )


def _check_scalar(kind: Any, value: Any, key: str, where: str) -> Any:  # noqa: ANN401
    if kind not in _KINDS:
        raise TypeError(f"field {key} has type {kind}, which no config can hold")
    # True is an int to Python, but to nobody who writes a config.
    if kind is not bool and isinstance(value, bool):
        raise _wrong_type(key, where, _KINDS[kind], value)
    if kind is float and isinstance(value, (int, float)):
        if math.isnan(value):
            raise ValueError(f"{key}{where} must be a number, got nan")
        return float(value)
    if kind is Path and isinstance(value, (str, Path)):
        return Path(value)
    if not isinstance(value, kind):
        raise _wrong_type(key, where, _KINDS[kind], value)
    return value


def _wrong_type(key: str, where: str, wanted: str, value: object) -> TypeError:
    got = _TOML_KINDS.get(type(value), type(value).__name__)
    return TypeError(f"{key}{where} must be {wanted}, got {value!r} ({got})")


def _plain(value: Any) -> Any:  # noqa: ANN401
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value) if field.init]
        return {name: _plain(getattr(value, name)) for name in fields}
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(inner) for inner in value]
    if value is None:
        return "none"
    return str(value) if isinstance(value, Path) else value
