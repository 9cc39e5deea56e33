"""Mutants of a Python file: every place where one small change of the code is possible, as text.

What is no code is left alone: annotations, docstrings and messages, decorators, the cards of
methods (ClassVar), and the defaults and ranges of options, which are settings.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from itertools import pairwise

BINARY: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
}
COMPARED: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
CALLED = {
    "min": "max",
    "max": "min",
    "amin": "amax",
    "amax": "amin",
    "argmin": "argmax",
    "argmax": "argmin",
    "clamp_min": "clamp_max",
    "clamp_max": "clamp_min",
    "any": "all",
    "all": "any",
    "sum": "mean",
    "mean": "sum",
    "floor": "ceil",
    "ceil": "floor",
    "softmax": "log_softmax",
    "log_softmax": "softmax",
    "add_": "sub_",
    "sub_": "add_",
    "mul_": "div_",
    "div_": "mul_",
}
DROPPED = {
    "abs",
    "clone",
    "detach",
    "neg",
    "sqrt",
    "exp",
    "log",
    "square",
    "round",
    "flip",
}  # x.abs() becomes x
SETTINGS = {"option", "Space"}


@dataclass(frozen=True)
class Mutant:
    """One change: the characters `start`..`end` of the file become `text`.

    `line` counts from 1; `name` says what changed.
    """

    path: str
    line: int
    start: int
    end: int
    text: str
    name: str

    @property
    def key(self) -> str:
        """Its id: place and change."""
        return f"{self.path}:{self.line}:{self.start}: {self.name}"

    def applied(self, source: str) -> str:
        """The file with the change."""
        return source[: self.start] + self.text + source[self.end :]


def mutants(path: str, source: str) -> list[Mutant]:
    """Every mutant of the file, in its order."""
    found = _Finder(path, source)
    found.visit(ast.parse(source))
    return sorted(found.mutants, key=lambda m: (m.start, m.end, m.text))


class _Finder(ast.NodeVisitor):
    def __init__(self, path: str, source: str) -> None:
        self.path, self.source = path, source
        lines = source.splitlines(keepends=True)
        self.starts = [0]
        for line in lines:
            self.starts.append(self.starts[-1] + len(line))
        self.bytes = [line.encode() for line in lines]
        self.mutants: list[Mutant] = []

    # --- places ---

    def at(self, line: int, column: int) -> int:
        """The character at a line and a column, which ast counts in bytes."""
        return self.starts[line - 1] + len(self.bytes[line - 1][:column].decode())

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """First character and the one behind the last."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.at(node.lineno, node.col_offset), self.at(node.end_lineno, node.end_col_offset)

    def text(self, node: ast.expr) -> str:
        """Its source."""
        start, end = self.span(node)
        return self.source[start:end]

    def put(self, line: int, start: int, end: int, text: str) -> None:
        """Notes a mutant."""
        old = " ".join(self.source[start:end].split())
        self.mutants.append(
            Mutant(
                self.path, line, start, end, text, f"{old[:40]} -> {' '.join(text.split())[:40] or 'nothing'}"
            )
        )

    def between(self, left: ast.expr, right: ast.expr, old: str, new: str) -> None:
        """Changes the operator that stands between two operands, brackets aside."""
        start, end = self.span(left)[1], self.span(right)[0]
        place = self.source.find(old, start, end)
        if place >= 0:
            self.put(left.end_lineno or left.lineno, place, place + len(old), new)

    # --- what is left alone ---

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None and "ClassVar" not in self.text(node.annotation):
            self.visit(node.value)

    def visit_arguments(self, node: ast.arguments) -> None:
        for default in (*node.defaults, *(d for d in node.kw_defaults if d is not None)):
            self.visit(default)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.visit(node.args)
        for statement in node.body:
            self.visit(statement)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for statement in node.body:
            self.visit(statement)

    def visit_Raise(self, node: ast.Raise) -> None:
        """A message."""

    def visit_Assert(self, node: ast.Assert) -> None:
        """For the type checker."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """A message."""

    # --- what is changed ---

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in BINARY and not any(map(_is_text, (node.left, node.right))):
            self.between(node.left, node.right, *BINARY[type(node.op)])
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for (left, right), operator in zip(pairwise((node.left, *node.comparators)), node.ops, strict=True):
            self.between(left, right, *COMPARED[type(operator)])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in pairwise(node.values):
            self.between(left, right, *(("and", "or") if isinstance(node.op, ast.And) else ("or", "and")))
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if not isinstance(node.op, ast.UAdd):
            self.put(node.lineno, *self.span(node), f"({self.text(node.operand)})")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self.put(node.lineno, *self.span(node), str(not value))
        elif isinstance(value, int):
            self.put(node.lineno, *self.span(node), str(value + 1))
        elif isinstance(value, float):
            self.put(node.lineno, *self.span(node), repr(2 * value if value else 1.0))

    def visit_Call(self, node: ast.Call) -> None:
        name = (
            node.func.attr
            if isinstance(node.func, ast.Attribute)
            else node.func.id
            if isinstance(node.func, ast.Name)
            else ""
        )
        if name in SETTINGS:
            return
        end = self.span(node.func)[1]
        if name in CALLED:
            self.put(node.func.end_lineno or node.lineno, end - len(name), end, CALLED[name])
        if name in DROPPED and isinstance(node.func, ast.Attribute) and not node.args and not node.keywords:
            self.put(node.lineno, *self.span(node), f"({self.text(node.func.value)})")
        if name == "abs" and isinstance(node.func, ast.Name):
            self.put(node.lineno, *self.span(node), f"({self.text(node.args[0])})")
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" not in self.text(node.test):
            self._negated(node.test)
            self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._negated(node.test)
        self.generic_visit(node)

    def _negated(self, test: ast.expr) -> None:
        self.put(test.lineno, *self.span(test), f"(not ({self.text(test)}))")

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if type(node.op) in BINARY:
            old, new = BINARY[type(node.op)]
            self.between(node.target, node.value, f"{old}=", f"{new}=")
        self.visit(node.value)

    def visit_Expr(self, node: ast.Expr) -> None:
        """A call for what it does, not for what it returns, is left out."""
        if isinstance(node.value, ast.Call):
            self.put(node.lineno, *self.span(node), "pass")
            self.visit(node.value)

    def visit_Continue(self, node: ast.Continue) -> None:
        self.put(node.lineno, *self.span(node), "break")

    def visit_Break(self, node: ast.Break) -> None:
        self.put(node.lineno, *self.span(node), "continue")


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
