"""What may get worse and by how much: rules per method and metric, from the command line,
pyproject.toml or pytest.ini.
"""

from __future__ import annotations

import configparser
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import msgspec

from airepair.errors import UsageError, choose
from airepair.host.validation import checked, toml_file
from airepair.metrics import entries
from airepair.report.costs import COLUMNS as COSTS
from airepair.report.gate import defaults

MISSING = "missing"  # in the place of a metric: what the baseline has and the new records lack
ACCEPTED = (
    "METRIC:-0.5pp, METRIC:-1% (of the old value), METRIC:off or missing:off, "
    "each also for one method: METHOD/METRIC:..."
)
_RULE = re.compile(
    r"(?:(?P<method>.+)/)?(?P<name>\w+):(?P<sign>[+-]?)(?P<amount>\d+(?:\.\d+)?|off)(?P<unit>pp|%|)"
)


@dataclass(frozen=True)
class Rule:
    """It says by how much (`amount`) a number of the cells whose method matches may change for the
    worse; None: it is not judged.

    The amount is in percent of the old value (`relative`) or in the metric's own unit: points of a
    share, seconds, images.
    """

    method: str
    name: str
    amount: float | None
    relative: bool = False

    def __str__(self) -> str:
        return self.name if self.method == "*" else f"{self.method}/{self.name}"

    def of(self, method: str) -> bool:
        """Returns whether the rule is for the method; brackets stand for themselves, as in a variant's
        name (`dl2[tuned]`), and `*` alone is special.
        """
        return fnmatchcase(method, self.method.replace("[", "[[]"))


@dataclass(frozen=True)
class Rules:
    """It holds the rules in their order, later ones first in line, and the level at which a
    decision must hold.
    """

    rules: tuple[Rule, ...]
    level: float = defaults.LEVEL

    @property
    def names(self) -> list[str]:
        """What is judged at all: metrics and costs in the order in which they were named."""
        return list(dict.fromkeys(r.name for r in self.rules if r.name != MISSING))

    def allowed(self, method: str, name: str, old: float) -> float | None:
        """Returns by how much the number may get worse, from `old`; None if it is not judged. The
        last rule counts; of an absolute and a relative one the tighter one.
        """
        found: dict[bool, float] = {}
        for rule in self.rules:
            if rule.name == name and rule.of(method):
                if rule.amount is None:
                    found = {}
                else:
                    found[rule.relative] = rule.amount * (abs(old) / 100 if rule.relative else 1)
        return min(found.values(), default=None)

    @property
    def effective(self) -> list[Rule]:
        """Returns the rules that judge something: none that says `off`, or that a later one turns off."""
        off = [(i, r) for i, r in enumerate(self.rules) if r.amount is None]
        return [
            rule
            for i, rule in enumerate(self.rules)
            if rule.amount is not None
            and not any(k > i and r.name == rule.name and r.of(rule.method) for k, r in off)
        ]

    def misses(self, method: str) -> bool:
        """Returns whether what the method's cells lack is a regression."""
        return not any(r.name == MISSING and r.of(method) for r in self.rules)


def better(name: str) -> str:
    """Which way is good; of a cost, less is."""
    return "lower" if name in COSTS else entries()[name].better


def points(name: str) -> bool:
    """Whether the number is a share or a difference of shares, shown in percent and changed by points."""
    return name not in COSTS and entries()[name].unit in ("share", "difference")


def parse(text: str) -> Rule:
    """Returns the rule of a text. UsageError shows it, and what would be accepted."""
    found = _RULE.fullmatch(text.strip())
    if not found:
        raise UsageError(f"{text!r} is not a rule of the gate; accepted: {ACCEPTED}")
    method, name = found["method"] or "*", found["name"]
    if name == MISSING:
        if found["amount"] != "off" or found["sign"] or found["unit"]:
            raise UsageError(f"{text!r}: what is missing is a regression, or is not; accepted: {MISSING}:off")
        return Rule(method, name, None)
    choose("metric of a rule", name, [*(n for n, e in entries().items() if e.better != "none"), *COSTS])
    if found["amount"] == "off":
        if found["sign"] or found["unit"]:
            raise UsageError(f"{text!r} is not a rule of the gate; accepted: {ACCEPTED}")
        return Rule(method, name, None)
    worse = "-" if better(name) == "higher" else "+"
    if found["sign"] not in ("", worse):
        way = "higher" if worse == "-" else "lower"
        raise UsageError(
            f"{text!r}: {name} gets better that way ({way} is better); accepted: "
            f"{name}:{worse}{found['amount']}{found['unit']}"
        )
    if found["unit"] == "pp" and not points(name):
        raise UsageError(
            f"{text!r}: {name} is not a share, so it has no points; accepted: "
            f"{name}:{worse}{found['amount']}% or a plain number"
        )
    amount = float(found["amount"])
    if not math.isfinite(amount):
        raise UsageError(f"{text!r} is not a rule of the gate; accepted: {ACCEPTED}")
    return Rule(method, name, amount, found["unit"] == "%")


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """It holds the fields of `[tool.airepair]` of pyproject.toml or `[airepair]` of pytest.ini."""

    fail_if: list[str] = []
    level: Annotated[float, msgspec.Meta(gt=0.5, lt=1)] | None = None


def rules_of(given: Iterable[str], level: float | None, folder: Path) -> Rules:
    """Returns the rules that were given, else those of the folder's pytest.ini or pyproject.toml,
    else the default; the level likewise.
    """
    section = of_project(folder)
    texts = list(given) or section.fail_if or defaults.RULES
    wanted = level if level is not None else section.level or defaults.LEVEL
    if not 0.5 < wanted < 1:
        raise UsageError(
            f"level {wanted:g} is out of range; accepted: above 0.5 and below 1, for example 0.95"
        )
    return Rules(tuple(map(parse, texts)), wanted)


def of_project(folder: Path) -> Section:
    """What the folder's configuration says; pytest.ini comes first, as for pytest."""
    ini, pyproject = folder / "pytest.ini", folder / "pyproject.toml"
    if ini.is_file():
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(ini, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            raise UsageError(f"{ini} cannot be read: {' '.join(str(error).split())}") from None
        if parser.has_section("airepair"):
            return checked(_of_ini(parser["airepair"]), Section, f"{ini} [airepair]")
    if pyproject.is_file():
        tool = toml_file(pyproject, "a project's configuration").get("tool")
        if isinstance(tool, dict) and "airepair" in tool:
            return checked(tool["airepair"], Section, f"{pyproject} [tool.airepair]")
    return Section()


def _of_ini(section: configparser.SectionProxy) -> dict[str, Any]:
    """Lists are one rule a line; a number is a number, other words stay for the check to refuse."""
    found: dict[str, Any] = dict(section)
    if "fail_if" in found:
        found["fail_if"] = [line.strip() for line in section["fail_if"].splitlines() if line.strip()]
    if re.fullmatch(r"\d*\.?\d+", section.get("level", "")):
        found["level"] = float(section["level"])
    return found
