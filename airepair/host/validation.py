"""What comes from outside (records, manifests, tables of settings, configuration) is checked here, by
msgspec. Free of torch.

msgspec says what type a field must have. It ignores fields that it does not know, and its errors
show neither the value nor the key of a mapping: `checked` refuses the first and names the other
two, in one sentence.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from airepair.errors import UsageError, one_line

T = TypeVar("T")

MOST = sys.float_info.max
LARGEST = 2**63 - 1  # of what is counted: from here on a range has no upper end
Finite = Annotated[float, msgspec.Meta(ge=-MOST, le=MOST)]
Positive = Annotated[float, msgspec.Meta(gt=0, le=MOST)]
NotNegative = Annotated[float, msgspec.Meta(ge=0, le=MOST)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]
Word = Annotated[str, msgspec.Meta(min_length=1)]

OURS = "ours"  # in the metadata of a dataclass's field: it does not come from outside

_NAMES: dict[Any, str] = {
    float: "a number",
    int: "a whole number",
    str: "text in quotes",
    bool: "true or false",
}
_UNIONS = (Union, types.UnionType)


def checked(value: object, kind: type[T], where: str) -> T:
    """Returns the value as `kind` (a dataclass, a msgspec.Struct or a type of their fields).

    UsageError names `where` (a file and line), the field, its value and what would be accepted.
    """
    found = next(problems(value, kind), None)
    if found is not None:
        raise UsageError(f"{where}: {found}")
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {error}") from None


def json_value(line: bytes) -> tuple[Any, bool]:
    """Returns the value of a JSON text, and whether it is strict JSON. UsageError if it is none.

    NaN, infinities and lone surrogates, which Python's json writes, are read, so that `problems`
    can name their field.
    """
    try:
        return msgspec.json.decode(line), True
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return json.loads(line.decode("utf-8")), False
    except UnicodeDecodeError as error:
        bad = line[error.start]
        raise UsageError(
            f"byte {error.start + 1} is 0x{bad:02x}, which is no UTF-8; accepted: JSON in UTF-8"
        ) from None
    except RecursionError:
        raise UsageError(f"{shown(line)} is nested too deeply; accepted: a JSON object") from None
    except ValueError as error:
        raise UsageError(f"not JSON: {shown(line)} ({error}); accepted: a JSON object") from None


def toml_file(path: Path, what: str) -> dict[str, Any]:
    """Returns the table that a TOML file holds. UsageError names the file, and `what` it should be."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; accepted: {what} (TOML)") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {one_line(error)}; accepted: {what} (TOML)") from None


def problems(value: object, hint: Any, field: str = "") -> Iterator[str]:
    """What is wrong with the value, one sentence per field."""
    kind, meta = _unwrapped(hint)
    fields = _fields(kind)
    if fields is not None and isinstance(value, Mapping):
        yield from _of_fields(value, fields, field, _is_open(kind))
    elif get_origin(kind) in _UNIONS:
        yield from _of_union(value, hint, field)
    elif _is_mapping(kind) and isinstance(value, Mapping):
        _, inner = get_args(kind) or (str, Any)
        for key, item in value.items():
            yield from problems(item, inner, _joined(field, key))
    elif _is_list(kind) and isinstance(value, list | tuple) and _fits_length(value, kind):
        inners = get_args(kind) or (Any,)
        if meta is not None and meta.min_length is not None and len(value) < meta.min_length:
            yield f"{field or 'it'} is {shown(value)}; accepted: {accepted(hint)}"
        for i, item in enumerate(value):
            yield from problems(
                item, inners[0 if len(inners) == 1 or inners[-1] is Ellipsis else i], f"{field}[{i}]"
            )
    elif kind is Any:
        yield from _of_anything(value, field)
    elif not _fits(value, hint):
        yield f"{field or 'it'} is {shown(value)}; accepted: {accepted(hint)}"


def accepted(hint: Any) -> str:
    """Returns a type as a person reads it: `a number from 0 to 1`, `one of a, b`, `a list of text`."""
    kind, meta = _unwrapped(hint)
    if get_origin(kind) is Literal:
        words = ", ".join(map(str, get_args(kind)))
        return f"one of {words}" if len(get_args(kind)) > 1 else words
    if get_origin(kind) in _UNIONS:
        return " or ".join(accepted(a) for a in get_args(kind) if a is not type(None))
    if _fields(kind) is not None or _is_mapping(kind):
        return "a table (an object)"
    if _is_list(kind):
        inner = get_args(kind)
        if inner and inner[-1] is not Ellipsis and len(inner) > 1:
            return f"a list of {len(inner)}: {', '.join(map(accepted, inner))}"
        return (f"a list of {accepted(inner[0])}" if inner else "a list") + _range(meta)
    return _NAMES.get(kind, getattr(kind, "__name__", str(kind))) + _range(meta)


def between(low: float, high: float) -> str:
    """Returns a range as a person reads it, both ends included."""
    if high >= LARGEST:
        return f"a number of at least {low:g}" if low > -MOST else "a number that is finite"
    return f"a number from {low:g} to {high:g}"


def shown(value: object, width: int = 60) -> str:
    """Returns the value for an error message, cut to a readable length."""
    try:
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        words = repr(text)
    except (ValueError, RecursionError):  # an integer of thousands of digits, a list of thousands of levels
        words = f"a huge {type(value).__name__}"
    return words if len(words) <= width else words[: width - 3] + "..."


def _of_fields(
    value: Mapping[Any, Any], fields: Mapping[str, tuple[Any, bool]], field: str, is_open: bool
) -> Iterator[str]:
    for key, item in value.items():
        if key in fields:
            continue
        if is_open:
            yield from _of_anything(item, _joined(field, key))
        else:
            near = get_close_matches(str(key), fields, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            yield (
                f"{_joined(field, key)} is not a known field{hint}, its value is {shown(item)}; "
                f"accepted: {', '.join(fields)}"
            )
    for name, (hint, required) in fields.items():
        if name in value:
            yield from problems(value[name], hint, _joined(field, name))
        elif required:
            yield f"{_joined(field, name)} is missing; accepted: {accepted(hint)}"


def _of_union(value: object, hint: Any, field: str) -> Iterator[str]:
    """Of a table or list, what is wrong within it; of anything else that no part accepts, the whole union."""
    parts = get_args(_unwrapped(hint)[0])
    found = [list(problems(value, part, field)) for part in parts]
    if all(found):
        inside = [f for part, f in zip(parts, found, strict=True) if _takes(value, part)]
        yield from inside[0] if inside else [f"{field or 'it'} is {shown(value)}; accepted: {accepted(hint)}"]


def _takes(value: object, part: Any) -> bool:
    """Whether the part is a table and the value is one, or both are lists."""
    kind, _ = _unwrapped(part)
    if isinstance(value, Mapping):
        return _fields(kind) is not None or _is_mapping(kind)
    return isinstance(value, list) and _is_list(kind) and _fits_length(value, kind)


def _of_anything(value: object, field: str) -> Iterator[str]:
    """A value of any type still holds finite numbers and text that can be written."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _of_anything(item, _joined(field, key))
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _of_anything(item, f"{field}[{i}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{field} is {value}; accepted: a finite number"
    elif isinstance(value, str) and not _fits(value, str):
        yield f"{field} is {shown(value)}; accepted: text without lone surrogates"


def _fits(value: object, hint: Any) -> bool:
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return False
    try:
        msgspec.convert(value, hint)
    except (msgspec.ValidationError, OverflowError, RecursionError):
        return False
    return True


def _unwrapped(hint: Any) -> tuple[Any, msgspec.Meta | None]:
    if get_origin(hint) is Annotated:
        kind, *extra = get_args(hint)
        return kind, next((m for m in extra if isinstance(m, msgspec.Meta)), None)
    return hint, None


def _fields(kind: Any) -> dict[str, tuple[Any, bool]] | None:
    """Name -> (type, whether it is required) of a Struct or a dataclass; None if it is neither."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        known = msgspec.structs.fields(kind)
        return {f.encode_name: (f.type, f.required) for f in known}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        missing = dataclasses.MISSING
        return {
            f.name: (hints[f.name], f.default is missing and f.default_factory is missing)
            for f in dataclasses.fields(kind)
            if not f.metadata.get(OURS)
        }
    return None


def _is_open(kind: Any) -> bool:
    """Whether other fields may stand beside the known ones: a Struct that does not forbid them."""
    return issubclass(kind, msgspec.Struct) and not kind.__struct_config__.forbid_unknown_fields


def _is_mapping(kind: Any) -> bool:
    origin = get_origin(kind) or kind
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _is_list(kind: Any) -> bool:
    origin = get_origin(kind) or kind
    return isinstance(origin, type) and issubclass(origin, Sequence) and not issubclass(origin, str | bytes)


def _fits_length(value: Sequence[Any], kind: Any) -> bool:
    inner = get_args(kind)
    fixed = bool(inner) and (get_origin(kind) is tuple) and inner[-1] is not Ellipsis
    return not fixed or len(value) == len(inner)


def _joined(field: str, key: object) -> str:
    text = key if isinstance(key, str) and key.isidentifier() else shown(key)
    return f"{field}.{text}" if field else str(text)


def _range(meta: msgspec.Meta | None) -> str:
    if meta is None:
        return ""
    if meta.min_length:
        return " that is not empty"
    if meta.gt is not None:
        return f" above {meta.gt:g}"
    low, high = (default if end is None else end for end, default in ((meta.ge, -MOST), (meta.le, MOST)))
    return between(low, high).removeprefix("a number")
