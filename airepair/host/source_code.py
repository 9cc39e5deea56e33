"""The digest of a method's source: its module, and what that imports of its own package, but for what
every method sees.

A method's number may change with any statement that it runs; HARNESS is what no number depends on.
Comments, docstrings, line breaks and the names of modules do not count: a file that is moved, or
explained better, is the same code. Free of torch: files are parsed, not imported.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from airepair.host.digest import of_parts, of_text

# What every method may import, and what holds names, types and messages only.
FRONT = "airepair"
HARNESS = (FRONT, "airepair.errors", "airepair.options", "airepair.paths", "airepair.types")

LIBRARIES = ("builtins", "torch", "torchvision")  # layers of theirs are known by their names


def source_digest(method: object) -> str:
    """Returns the SHA-256 over the source of the method, of the methods that it runs (`methods()`),
    and over the files of an external tool.

    A module whose source cannot be found counts by its name.
    """
    parts = [f"{digest};" for digest in sorted(_digest(name) for name in _modules(method))]
    folder: Path | None = getattr(getattr(method, "manifest", None), "folder", None)
    if folder is not None:
        files = sorted(f for f in folder.rglob("*") if f.is_file() and "__pycache__" not in f.parts)
        parts += [f"{file.relative_to(folder)}:{_content(file)};" for file in files]
    parts += [source_digest(inner) for inner in getattr(method, "methods", list)()]
    return of_text("".join(parts))


def classes_digest(classes: Iterable[type]) -> str:
    """Returns the SHA-256 over the source of classes and of those that they are made from; "" if all
    are of LIBRARIES.
    """
    defining = {c.__module__ for kind in classes for c in kind.__mro__}
    own = {name for name in defining if name.partition(".")[0] not in LIBRARIES}
    return of_text("".join(f"{d};" for d in sorted(map(_digest, _with_imports(own))))) if own else ""


def _modules(method: object) -> set[str]:
    """The modules that define the method's class and those it is made from, with what they import."""
    return _with_imports({c.__module__ for c in type(method).__mro__} - {"builtins"})


def _with_imports(defining: Iterable[str]) -> set[str]:
    return set[str]().union(*(_closure(name) | {name} for name in defining)).difference(HARNESS)


@cache
def _closure(name: str) -> frozenset[str]:
    """The module and all that it imports, directly or not, of its top-level package."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        module = waiting.pop()
        if module not in found and _file(module) is not None:
            found.add(module)
            # FRONT imports the report for its users: no method's number depends on it
            waiting += [m for i in _code(module).imports for m in (i.module, i.whole) if m != FRONT]
    return frozenset(found)


@dataclass(frozen=True, order=True)
class Import:
    """Stands for `from module import name as bound`, of the own package; of `import module` the
    name is empty.
    """

    module: str
    name: str
    bound: str

    @property
    def whole(self) -> str:
        """Returns the name with its module: a module's own, or that of what stands in one."""
        return f"{self.module}.{self.name}" if self.name else self.module


@dataclass(frozen=True)
class Code:
    """A module without its imports of the own package, as the digest of its syntax tree ("" if
    nothing is left), and these imports.
    """

    rest: str
    imports: tuple[Import, ...] = ()


def _digest(module: str) -> str:
    """The digest of a module's code.

    What it imports is named by its content, so that no module's name counts.
    """
    if _file(module) is None:
        return module
    code = _code(module)
    if not code.rest and not code.imports:
        return ""
    imports = sorted(f"{_named(i)} {'' if _file(i.whole) else i.name} {i.bound}" for i in code.imports)
    return of_text("\n".join((code.rest, *imports)))


def _named(found: Import) -> str:
    """What stands for the imported module: its code without its own imports, or its name where it
    has no source or is of HARNESS.
    """
    module = found.whole if _file(found.whole) else found.module
    return "harness" if module in HARNESS else _code(module).rest if _file(module) else module


@cache
def _code(module: str) -> Code:
    file = _file(module)
    try:
        tree = ast.parse(file.read_bytes() if file is not None else b"")
    except (OSError, SyntaxError, ValueError):
        return Code(_content(file))
    package = module.split(".") if file is not None and file.name == "__init__.py" else module.split(".")[:-1]
    found: list[Import] = []
    _strip(tree, package, found)
    return Code(of_text(_shape(tree)) if tree.body else "", tuple(sorted(found)))


def _strip(node: ast.AST, package: list[str], found: list[Import]) -> None:
    """Takes docstrings and imports of the own package out of the tree; the imports go to `found`."""
    for name in ("body", "orelse", "finalbody"):
        body = getattr(node, name, None)
        if not isinstance(body, list):
            continue
        for statement in list(body):
            own = list(_imports(statement, package))
            if own:
                found += own
                body.remove(statement)
            else:
                _strip(statement, package, found)
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if (
            documented
            and name == "body"
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            del body[0]
    for handler in getattr(node, "handlers", []):
        _strip(handler, package, found)
    for case in getattr(node, "cases", []):
        _strip(case, package, found)


def _imports(node: ast.stmt, package: list[str]) -> Iterator[Import]:
    """What a statement imports of the own package; `from __future__` and other packages are code
    like any other.
    """
    top = package[0] if package else ""
    if isinstance(node, ast.Import) and all(a.name.partition(".")[0] == top for a in node.names):
        yield from (Import(a.name, "", a.asname or "") for a in node.names)
    elif isinstance(node, ast.ImportFrom):
        start = package[: len(package) - node.level + 1] if node.level else []
        whole = ".".join([*start, *([node.module] if node.module else [])])
        if whole.partition(".")[0] == top:
            yield from (Import(whole, a.name, a.asname or "") for a in node.names)


def _shape(node: Any) -> str:
    """A syntax tree as text.

    What is empty is left out: Python versions differ in the fields that they have.
    """
    if isinstance(node, ast.AST):
        filled = ((k, v) for k, v in ast.iter_fields(node) if v is not None and v != [])
        return f"{type(node).__name__}({','.join(f'{k}={_shape(v)}' for k, v in filled)})"
    return f"[{','.join(map(_shape, node))}]" if isinstance(node, list) else repr(node)


@cache
def _file(module: str) -> Path | None:
    """The module's source file.

    Only the top-level package is looked up: its parts are found by their path, so nothing is
    imported. (A package without `__init__.py` has folders and no file.)
    """
    top, *rest = module.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    inner = (Path(folder, *rest) for folder in spec.submodule_search_locations or ())
    files = (p for i in inner for p in (i.with_suffix(".py"), i / "__init__.py"))
    return next((p for p in files if p.is_file()), None)


def _content(file: Path | None) -> str:
    """The digest of a file's bytes, with plain line ends; "" if there is none."""
    try:
        data = file.read_bytes() if file is not None else b""
    except OSError:
        return ""
    return of_parts([data.replace(b"\r\n", b"\n")])
