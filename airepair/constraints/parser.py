"""Text to constraints by recursive descent; nothing is ever evaluated by Python. Every error names
the column.

constraint   = formula, where a top-level "and" joins constraints of their own
formula      = or-formula [ "=>" formula ]           or-formula = and-formula { "or" and-formula }
and-formula  = item { "and" item }
item         = "not" item | "forall" NAME "in" region { "," NAME "in" region } ":" formula | "true" | "false"
             | ("every" | "some") "(" formula ")" | "(" formula ")"
             | PUBLISHED [ "(" [ [NAME "="] number { "," ... } ] ")" ]
             | term ("<=" | "<" | ">=" | ">" | "==" | "!=") term
region       = "box" "(" point "," number ")" | "segment" "(" point "," point ")"
term         = sums and products of: number, y, y2, log|exp|abs "(" term ")",
               logit|logp|p "(" point "," class ")", groups "(" point ")",
               dist|change|kl "(" point "," point ")", blend "(" point ")", "(" term ")"
class        = id | class name | y | y2 | "{" class { "," class } "}"

A comparison of labels, and whatever stands in given(...), is a fact: its loss is 0 or 1. Class ids
are names, so |y - y2| would mean nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NoReturn, cast

from airepair.constraints.formulas import (
    EQ,
    LE,
    LT,
    NE,
    And,
    Every,
    Formula,
    Given,
    Or,
    Some,
    Truth,
    implies,
    walk,
)
from airepair.constraints.published import NAMED, WEIGHT, Box, Constraint, Named, Region, Segment
from airepair.constraints.terms import (
    Apply,
    Blend,
    Change,
    Distance,
    Divergence,
    Groups,
    Label,
    Output,
    Term,
    Value,
)
from airepair.errors import UsageError
from airepair.types import Robustness

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_]\w*)|(?P<sign>=>|<=|>=|==|!=|[-+*/<>=(){},:]))"
)
_COMPARISONS = ("<=", "<", ">=", ">", "==", "!=")
_DEPTH = 60


@dataclass(frozen=True)
class Token:
    """It is a piece of the text: its kind, its letters, and the column of the first (from 1)."""

    kind: str
    text: str
    column: int


def tokens(text: str) -> list[Token]:
    """Returns the tokens of the text, an `end` behind them; UsageError at a character that begins
    none.
    """
    found, place = [], 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if not match:
            place += len(text[place:]) - len(text[place:].lstrip())
            raise UsageError(
                f"constraint, column {place + 1}: {text[place]!r} is not expected here, in {text!r}"
            )
        kind = cast(str, match.lastgroup)
        found.append(Token(kind, match[kind], match.start(kind) + 1))
        place = match.end()
    return [*found, Token("end", "the end", len(text) + 1)]


def parse(
    text: str, *, classes: tuple[str, ...] | None = None, robustness: Robustness | None = None
) -> tuple[Constraint, ...]:
    """Returns the constraints of the text, joined by its top-level `and`.

    Without `classes` any class is accepted and without `robustness` its constants are 1: that
    checks the syntax. UsageError with the column.
    """
    parser = _Parser(text, classes, robustness)
    found = parser.formula()
    parser.expect_end()
    return tuple(_published_weight(c, text) for c in (found if isinstance(found, tuple) else (found,)))


def _published_weight(found: Constraint | Formula, text: str) -> Constraint:
    return found if isinstance(found, Constraint) else Constraint(text.strip(), found, {}, WEIGHT)


# What a rule may return: a formula, a constraint of its own, or several joined by a top-level "and".
Found = Formula | Constraint | tuple[Formula | Constraint, ...]


class _Parser:
    def __init__(self, text: str, classes: tuple[str, ...] | None, robustness: Robustness | None) -> None:
        self.text, self.classes, self.robustness = text, classes, robustness
        self.tokens, self.place, self.depth = tokens(text), 0, 0
        self.bound: list[str] = ["x", "x2"]

    # -- reading
    # ------------------------------------------------------------------------------------------

    @property
    def next(self) -> Token:
        return self.tokens[self.place]

    def fail(self, what: str, at: Token) -> NoReturn:
        raise _At(f"constraint, column {at.column}: {what}, in {self.text!r}", at.column)

    def take(self, *texts: str) -> Token | None:
        """The next token if it is one of `texts`."""
        if self.next.kind != "end" and self.next.text in texts:
            self.place += 1
            return self.tokens[self.place - 1]
        return None

    def need(self, *texts: str) -> Token:
        return self.take(*texts) or self.fail(
            f"{self.next.text!r} where {' or '.join(map(repr, texts))} is expected", self.next
        )

    def expect_end(self) -> None:
        if self.next.kind != "end":
            self.fail(f"{self.next.text!r} is unexpected; accepted here: and, or, =>, or the end", self.next)

    # -- formulas
    # ------------------------------------------------------------------------------------------

    def formula(self) -> Found:
        self.depth += 1
        if self.depth > _DEPTH:
            self.fail(f"nested more than {_DEPTH} deep", self.next)
        start = self.next
        left = self.disjunction()
        if self.take("=>"):
            after = self.next
            left = implies(self.plain(left, start), self.plain(self.formula(), after))
        self.depth -= 1
        return left

    def disjunction(self) -> Found:
        start = self.next
        first = self.conjunction()
        if self.next.text != "or":
            return first
        members = [self.plain(first, start)]
        while self.take("or"):
            start = self.next
            members.append(self.plain(self.conjunction(), start))
        return Or(tuple(members))

    def conjunction(self) -> Found:
        members = [self.item()]
        while self.take("and"):
            members.append(self.item())
        if len(members) == 1:
            return members[0]
        if all(not isinstance(m, (Constraint, tuple)) for m in members):
            return And(tuple(cast(list[Formula], members)))
        return tuple(part for m in members for part in (m if isinstance(m, tuple) else (m,)))

    def item(self) -> Found:
        start = self.next
        if self.take("not"):
            self.depth += 1
            if self.depth > _DEPTH:
                self.fail(f"nested more than {_DEPTH} deep", start)
            inner = self.plain(self.item(), start).negated()
            self.depth -= 1
            return inner
        if self.take("forall"):
            return self.forall(start)
        if self.take("true", "false"):
            return Truth(start.text == "true")
        if self.take("every", "some"):
            return self.over_groups(start)
        if self.take("given"):
            self.need("(")
            after = self.next
            fact = self.plain(self.formula(), after)
            self.need(")")
            return Given(fact)
        if start.text in NAMED:
            self.place += 1
            return self.published(NAMED[start.text], start)
        return self.bracket_or_comparison(start)

    def plain(self, found: Found, at: Token) -> Formula:
        """The formula alone; a quantifier may stand only at the top."""
        if isinstance(found, tuple):
            return And(tuple(self.plain(f, at) for f in found))
        if not isinstance(found, Constraint):
            return found
        if found.regions:
            self.fail("'forall' is allowed only at the top, or in an 'and' at the top", at)
        return found.formula

    def bracket_or_comparison(self, start: Token) -> Found:
        if start.text != "(":
            return self.comparison()
        place, depth = self.place, self.depth
        try:
            return self.comparison()
        except _At as as_term:
            self.place, self.depth = place, depth
            try:
                self.need("(")
                found = self.formula()
                self.need(")")
            except _At as as_formula:
                raise max(as_term, as_formula, key=lambda e: e.column) from None
            return found

    def comparison(self) -> Formula:
        start = self.next
        a = self.term()
        sign = self.need(*_COMPARISONS)
        b = self.term()
        if self.next.text in _COMPARISONS:
            self.fail("a comparison has two sides; join two comparisons by 'and'", self.next)
        readings: dict[str, Formula] = {
            "<=": LE(a, b), "<": LT(a, b), ">=": LE(b, a), ">": LT(b, a), "==": EQ(a, b), "!=": NE(a, b)
        }  # fmt: skip
        formula = readings[sign.text]
        if not self.inside_groups and any(isinstance(t, Groups) for t in walk(formula)):
            self.fail("groups(...) is allowed only inside every(...) or some(...)", start)
        return Given(formula) if _nominal(formula) else formula

    inside_groups = False

    def over_groups(self, start: Token) -> Formula:
        if self.inside_groups:
            self.fail(f"{start.text!r} inside every(...) or some(...)", start)
        self.need("(")
        self.inside_groups = True
        after = self.next
        try:
            member = self.plain(self.formula(), after)
        finally:
            self.inside_groups = False
        self.need(")")
        for comparison in _comparisons(member):
            terms = list(walk(comparison))
            if not any(isinstance(t, Groups) for t in terms) or any(
                not isinstance(t, (Groups, Value, Apply)) for t in terms
            ):
                self.fail(f"{start.text}(...) compares groups(...) with numbers only", after)
        return Every(member) if start.text == "every" else Some(member)

    # -- quantifiers and published constraints
    # ------------------------------------------------------------------------------------------

    def forall(self, start: Token) -> Constraint:
        if len(self.bound) > 2:
            self.fail(
                "one 'forall' inside another; name all its points in one: forall z in ..., w in ...: ...",
                start,
            )
        regions: dict[str, Region] = {}
        while not regions or self.take(","):
            name = self.next
            if name.kind != "name" or name.text in (*self.bound, *regions, *_RESERVED, *NAMED):
                self.fail(f"{name.text!r} is not a new name for a point", name)
            self.place += 1
            self.need("in")
            regions[name.text] = self.region()
        self.need(":")
        self.bound += regions
        after = self.next
        body = self.plain(self.formula(), after)
        self.bound = self.bound[:2]
        return Constraint(self.text[start.column - 1 : self.next.column - 1].strip(), body, regions)

    def region(self) -> Region:
        kind = self.need("box", "segment")
        self.need("(")
        point = self.point()
        self.need(",")
        region: Region = Box(point, self.number()) if kind.text == "box" else Segment(point, self.point())
        self.need(")")
        return region

    def published(self, named: Named, at: Token) -> Constraint | Formula:
        values = self.arguments(named, at)
        if named.classes and self.classes is not None and self.classes != named.classes:
            self.fail(
                f"{at.text} is about the classes of CIFAR-10 ({', '.join(named.classes)}), not about these",
                at,
            )
        if self.inside_groups:
            self.fail(f"{at.text} inside every(...) or some(...)", at)
        text = f"{at.text}({', '.join(f'{k}={v:g}' for k, v in values.items())})"
        (found,) = parse(named.expression.format(**{k: repr(v) for k, v in values.items()}))
        here = self.published_here(named)
        usual = (
            named.weight if named.weight is not None else self.robustness.weight if self.robustness else 1.0
        )
        weight, steps = here.get("weight", usual), int(here.get("steps", named.steps))
        radius = values[named.radius] if named.radius else None
        return Constraint(text, found.formula, found.regions, weight, steps, radius, named.rate)

    def published_here(self, named: Named) -> Mapping[str, float]:
        return named.on.get(self.classes, {}) if self.classes is not None else {}

    def arguments(self, named: Named, at: Token) -> dict[str, float]:
        here = self.published_here(named)
        values = {
            k: here.get(k, v if v is not None else self.constant(k)) for k, v in named.parameters.items()
        }
        left = list(named.parameters)
        if not self.take("("):
            return values
        while not self.take(")"):
            if len(left) < len(named.parameters):
                self.need(",")
            key = self.next
            if key.kind == "name":
                if key.text not in left:
                    self.fail(
                        f"{key.text!r} is not a further parameter of {at.text}; accepted: "
                        f"{', '.join(left) or 'none'}",
                        key,
                    )
                self.place += 1
                self.need("=")
            elif not left:
                self.fail(f"{at.text} has no further parameter", key)
            name = key.text if key.kind == "name" else left[0]
            left.remove(name)
            values[name] = self.number()
        return values

    def constant(self, name: str) -> float:
        return float(getattr(self.robustness, name)) if self.robustness else 1.0

    # -- terms
    # ------------------------------------------------------------------------------------------

    def term(self) -> Term:
        term = self.product()
        while sign := self.take("+", "-"):
            term = Apply(sign.text, (term, self.product()))
        return term

    def product(self) -> Term:
        term = self.factor()
        while sign := self.take("*", "/"):
            term = Apply(sign.text, (term, self.factor()))
        return term

    def factor(self) -> Term:
        self.depth += 1
        if self.depth > _DEPTH:
            self.fail(f"nested more than {_DEPTH} deep", self.next)
        term = self.primary(self.next)
        self.depth -= 1
        return term

    def primary(self, start: Token) -> Term:
        if self.take("-"):
            return Apply("negative", (self.factor(),))
        if start.kind == "number":
            return Value(self.number())
        if start.kind == "name" and start.text in ("y", "y2"):
            self.place += 1
            return Label(start.text)
        if self.take("("):
            inner = self.term()
        elif start.kind == "name" and start.text in _FUNCTIONS:
            self.place += 1
            self.need("(")
            inner = self.call(start.text)
        else:
            self.fail(
                f"{start.text!r} is not a term; accepted: a number, y, y2, {', '.join(_FUNCTIONS)}", start
            )
        self.need(")")
        return inner

    def call(self, function: str) -> Term:
        if function in ("log", "exp", "abs"):
            return Apply(function, (self.term(),))
        point = self.point()
        if function == "groups":
            return Groups(point)
        if function == "blend":
            return Blend(point, "x", "x2")
        self.need(",")
        if function in _PAIRS:
            return _PAIRS[function](point, self.point())
        return Output(cast(Literal["logit", "logp", "p"], function), point, self.chosen())

    def point(self) -> str:
        token = self.next
        if token.kind != "name" or token.text not in self.bound:
            self.fail(f"{token.text!r} is not a point; accepted: {', '.join(self.bound)}", token)
        self.place += 1
        return token.text

    def number(self) -> float:
        sign = -1.0 if self.take("-") else 1.0
        token = self.next
        if token.kind != "number" or not math.isfinite(float(token.text)):
            self.fail(f"{token.text!r} is not a finite number", token)
        self.place += 1
        return sign * float(token.text)

    def chosen(self) -> tuple[int, ...] | str:
        if self.next.text in ("y", "y2"):
            self.place += 1
            return self.tokens[self.place - 1].text
        if not self.take("{"):
            return (self.class_id(),)
        ids = [self.class_id()]
        while self.take(","):
            ids.append(self.class_id())
        self.need("}")
        return tuple(dict.fromkeys(ids))

    def class_id(self) -> int:
        token = self.next
        self.place += 1
        if (
            token.kind == "number"
            and token.text.isdecimal()
            and (self.classes is None or int(token.text) < len(self.classes))
        ):
            return int(token.text)
        if token.kind == "name" and self.classes is None:
            return 0
        if token.kind == "name" and self.classes is not None and token.text in self.classes:
            return self.classes.index(token.text)
        known = (
            f"0..{len(self.classes) - 1}, {', '.join(self.classes[:12])}"
            if self.classes
            else "an id or a name"
        )
        return self.fail(f"{token.text!r} is not a class; accepted: {known}", token)


class _At(UsageError):
    """A UsageError that knows its column, so that of two readings the one that came further is reported."""

    def __init__(self, text: str, column: int) -> None:
        super().__init__(text)
        self.column = column


_PAIRS: Mapping[str, type[Distance] | type[Change] | type[Divergence]] = {
    "dist": Distance,
    "change": Change,
    "kl": Divergence,
}
_FUNCTIONS = ("log", "exp", "abs", "logit", "logp", "p", "groups", "dist", "change", "kl", "blend")
_RESERVED = (
    "y",
    "y2",
    "in",
    "and",
    "or",
    "not",
    "forall",
    "true",
    "false",
    "every",
    "some",
    "given",
    "box",
    "segment",
    *_FUNCTIONS,
)


def _nominal(formula: Formula) -> bool:
    """Whether only labels and numbers are compared."""
    terms = list(walk(formula))
    return any(isinstance(t, Label) for t in terms) and all(
        isinstance(t, (Label, Value, Apply)) for t in terms
    )


def _comparisons(formula: Formula) -> list[Formula]:
    if isinstance(formula, (And, Or)):
        return [c for m in formula.members for c in _comparisons(m)]
    return [] if isinstance(formula, Truth) else [formula]
