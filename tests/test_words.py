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
    r"(?:\bException|Error|\bNone|\bUnsupported|\bUnavailable|\bempty|\bnothing|\"\"),? where [a-z]": "if",
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
FILES = [
    f
    for room in ("airepair", "fixtures", "reports", "benchmarks", "examples", "docs/hooks")
    for f in (ROOT / room).rglob("*.py")
]
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


# What a docstring begins with that is no verb, though it ends in s.
NO_VERBS = frozenset(
    re.findall(
        r"[\w']+",
        """
this its seconds images scores values digests points classes bytes options labels weights layers
words lines files numbers parts rows rules records epochs steps cells logits places folders facts bounds
units inputs outputs reasons ways kinds methods metrics faults models subjects sources always less
unless across arrays batches bits booleans channels columns constants controls exams fitness flakes
indices keras logits messages operations others pairs pixels settings variables versions zeros
""",
    )
)
VERBS = frozenset(
    re.findall(
        r"[\w']+",
        """
is are was were be been has have had can may must will would should does do did isn't cannot accepts
adds allows answers appears applies asks becomes begins belongs brings calls carries changes chooses
closes comes compares computes contains converts copies costs counts covers creates decides depends
describes differs draws drops ends equals exists expects fails finds fits follows gets gives goes
happens hears holds imports includes joins keeps knows learns leads leaves lets lies loads looks loses
makes maps matches means measures meets mends moves needs occurs opens orders owns passes pays picks
pins plays prepares presents prints produces puts raises ranks reads receives refuses remains remembers
removes repairs repeats replaces reports represents resolves rests results returns rises runs says
scales sees selects sends separates serves sets shows sits skips sorts splits spoils stands starts
states stays steps stops stores sums swaps takes tells tests throws trains travels tries trusts turns
uses waits wants watches wins works wraps yields
""",
    )
)
SIDE = re.compile(
    r"\b(?:that|which|who|whose|whom|where|when|if|as|because|since|so|unless|until|after|before|while|what|how"
    r"|why|whether)\b"
)


def begins_without_a_verb(docstring: str) -> bool:
    """Returns whether the first sentence, up to its first side clause, has no verb of the list and
    does not begin with one (`Trains`).
    """
    flat = " ".join(docstring.split("\n\n")[0].split())
    sentence = re.split(r"(?<=[.:;?!])\s", flat, maxsplit=1)[0]
    side = SIDE.search(sentence, 1)
    main = re.findall(r"[A-Za-z][\w'-]*", sentence[: side.start()] if side else sentence)
    if not main or (re.fullmatch(r"[A-Z][a-z]+s", main[0]) and main[0].lower() not in NO_VERBS):
        return False
    return not VERBS & {word.lower() for word in main}


def public_docstrings() -> Iterator[tuple[str, str]]:
    """Yields the place and the docstring of each public function and class of the package."""
    for file in (ROOT / "airepair").rglob("*.py"):
        waiting: list[ast.AST] = [ast.parse(file.read_text(encoding="utf-8"))]
        while waiting:
            for node in ast.iter_child_nodes(waiting.pop()):
                if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                    if text := ast.get_docstring(node):
                        yield f"{file.relative_to(ROOT)}:{node.lineno}", text
                    waiting += [node] if isinstance(node, ast.ClassDef) else []


def test_docstrings_are_sentences() -> None:
    """They say what a thing does, returns or is."""
    assert [place for place, text in public_docstrings() if begins_without_a_verb(text)] == []


def test_a_docstring_without_a_verb_is_counted() -> None:
    """A side clause does not make a sentence; a method's result is returned."""
    assert begins_without_a_verb("The file that it reads.")
    assert begins_without_a_verb("Logits of images.")
    assert not begins_without_a_verb("Returns the file that it reads.")
    assert not begins_without_a_verb("Trains a network; UsageError if there is none.")
    assert not begins_without_a_verb("The file is read.")
