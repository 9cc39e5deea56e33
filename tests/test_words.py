"""Plain technical English: words and turns that the project fell for before, refused in its pages, its
messages and its docstrings. Say who does what: subject, verb, object.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UNITS = (
    "batch|box|case|cell|class|column|command|CPU|cycle|data set|device|epoch|fault|file|folder|generation|"
    "GPU|group|image|input|job|layer|line|machine|method|minute|model|network|node|number|pass|place|process|"
    "processor|repair|round|row|second|seed|set|split|stage|step|subject|task|trial|worker"
)
COUNTED = (
    "one|two|three|four|five|images|lines?|seconds|cells|trials|threads?|workers?|numbers|blocks|failures"
)
# What is refused -> what to write instead.
REFUSED = {
    r"\bat hand\b": "found, available",
    r"\b(?:is|are|was|were|be|been|being) (?:said|told)\b": "the record states, the message says",
    r"\btold (?:by|from|apart)\b": "detected from, different from",
    r"\bcame to\b|\bwhat came of\b|\bhow it came out\b": "result",
    r"(?:[.;:]|\n)\s*Where (?!files?\b|results?\b|the data\b|each value\b)": "If",
    r"\b(?:where|whatever|wherever) there (?:is|are)\b": "if there is",
    r"\bwhere (?:none|nothing|nobody|neither)\b": "if no ...",
    r"\bwhat to put where\b": "names the file and the folder to add",
    rf"\b(?:{COUNTED}) a (?:{UNITS})\b(?! time|'s)": "per",
    r"\bin reach of\b": "a method never gets",
    r"\bfalls? for\b": "is deceived by",
    r"\bwalk(?:s|ed)? this way\b|\bis walked\b|\bare walked\b": "does this, was tested",
}
PATTERNS = {re.compile(pattern, re.MULTILINE): better for pattern, better in REFUSED.items()}
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "changelog.d").glob("*.md"),
    ROOT / "examples" / "README.md",
]
FILES = [f for room in ("airepair", "fixtures", "reports", "docs/hooks") for f in (ROOT / room).rglob("*.py")]
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.DOTALL | re.MULTILINE)


def found_in(text: str) -> Iterator[str]:
    """Each refused turn in a text, with the better one."""
    flat = re.sub(r"[ \t]*\n[ \t]*(?=\S)", " ", text)
    for pattern, better in PATTERNS.items():
        for match in pattern.finditer(flat):
            yield f"{flat[max(0, match.start() - 30) : match.end() + 20]!r}: better {better!r}"


def strings(file: Path) -> Iterator[tuple[int, str]]:
    """The strings of a file with their lines; of an f-string its fixed parts."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_page_is_plain_english(page: Path) -> None:
    """Code aside."""
    assert list(found_in(CODE.sub("", page.read_text(encoding="utf-8")))) == []


def test_messages_and_docstrings_are_plain_english() -> None:
    """Every string with a space in it, in the package and the suite."""
    wrong = [
        f"{file.relative_to(ROOT)}:{line}: {problem}"
        for file in FILES
        for line, text in strings(file)
        for problem in found_in(CODE.sub("", text))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "sentence",
    [
        "cifar100 is not at hand",
        "How long it takes is said before the first.",
        "What a file is, is told by its content.",
        "One line a cell, two workers a GPU.",
        "It reads files. Where one is absent its cells are skipped.",
        "one that is there where there is none",
    ],
)
def test_sentences_that_the_project_had_are_refused(sentence: str) -> None:
    """The list can fail."""
    assert list(found_in(sentence))


# What is no prose: blocks of code, what is rendered between comments, tables, pictures.
NO_PROSE = (
    re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE),
    re.compile(r"<!-- [\w /.:-]+ -->\n.*?<!-- [\w :]*end -->", re.DOTALL),
    re.compile(r"^(?:\||!\[|    ).*$", re.MULTILINE),
)
RENDERED = ROOT / "docs" / "findings.md"


@pytest.mark.parametrize(
    "page",
    [p for p in PAGES if p != RENDERED and p.parent.name != "changelog.d"],
    ids=lambda p: p.relative_to(ROOT).as_posix(),
)
def test_prose_is_wrapped(page: Path) -> None:
    """At 110 characters or less. A fragment of the changelog may be one line."""
    text = page.read_text(encoding="utf-8")
    for pattern in NO_PROSE:
        text = pattern.sub("", text)
    assert [line for line in text.splitlines() if len(line) > 110] == []
