"""The house: what lies at the top level, how many arrows lead between rooms, how many imports stand
in functions, which files a cell enters.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType

import pytest

import airepair
from airepair.case import Case
from airepair.runner.cell import CellSpec
from airepair.runner.loading import Loader
from airepair.runner.run import run_cell
from airepair.runner.specify import Shared, cell_spec, chosen_options

ROOT = Path(airepair.__file__).parent
NOUNS = {"types", "case", "errors", "options", "registry", "settings", "paths"}
FILES = {
    ".".join(("airepair", *f.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): f
    for f in ROOT.rglob("*.py")
}

# Ceilings only fall: whoever gets below one lowers it.
ARROWS = 150  # between rooms and nouns (244 before the move)
ARROWS_OF_ROOMS = 79  # without those to the nouns, which everybody may import
IN_FUNCTIONS = 50  # import statements within functions (122 of 1,011 at first)
# Files that one fc/finetune cell enters beside metrics/, report/ and what these call: as a worker runs
# it, whose subject is loaded and whose column's budgets are known (88 before, the aim is 35), and with
# the subject read from the cache first.
ENTERED, ENTERED_WITH_ITS_SUBJECT = 35, 48


# Libraries that are imported where they are used: extras, which need not be installed, and what a
# foreign parser or a driver brings.
LATE_LIBRARIES = {
    *("keras", "tensorflow", "mmdnn", "google", "onnx", "onnxruntime", "onnx2torch", "optuna", "pandas"),
    "pynvml",  # loads the driver's library, where there is one
    "argcomplete",  # for a shell that asks for completions
    "resource",  # not on Windows
}
# Modules with another import in a function, and why.
LATE = {
    "host.arithmetic.setup": "metadata of packages are half of what `airepair --help` would take",
    "cli.repair.targets": "the selection of cells knows names without torch",
    "cli.verify": "records are read and checked without torch",
    "data": "the grid knows names without torch and numpy",
    "formats.export": "each format needs an extra of its own",
    "formats.mmdnn.from_torch": "torchvision loads within the shim of MMdnn's parser",
    "formats.tensorflow.worker": "limits of the process come before TensorFlow",
    "formats.torch.programs": "a part of torch that not every version has",
    "methods": "the registry knows names without torch",
    "runner.device": "a device is named without torch",
}


def room(module: str) -> str:
    """The room of a module, or the noun that it is."""
    return [*module.split("."), ""][1]


def imported(node: ast.stmt) -> Iterator[str]:
    """The modules of airepair that a statement imports."""
    names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
    if isinstance(node, ast.ImportFrom) and node.module:
        names = [f"{node.module}.{a.name}" for a in node.names]
    for name in names:
        while name and name not in FILES:
            name = name.rpartition(".")[0]
        if name.startswith("airepair."):
            yield name


def for_types_only(tree: ast.Module) -> set[ast.AST]:
    """What stands under `if TYPE_CHECKING:`."""
    blocks = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    return {inner for block in blocks for statement in block.body for inner in ast.walk(statement)}


def imports() -> dict[str, set[str]]:
    """Module -> the modules of airepair that it imports, in functions too, but for types only."""
    found = {}
    for module, file in FILES.items():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        left_out = for_types_only(tree)
        statements = [n for n in ast.walk(tree) if isinstance(n, ast.stmt) and n not in left_out]
        found[module] = {target for node in statements for target in imported(node)} - {module}
    return found


def arrows() -> set[tuple[str, str]]:
    """(room, room that it imports), where they differ."""
    found = {(room(module), room(target)) for module, targets in imports().items() for target in targets}
    return {(a, b) for a, b in found if a != b and a not in ("", "__main__")}


def test_the_top_level_holds_the_nouns_and_the_rooms() -> None:
    """A module that is no noun has a room, and every room is described in docs/architecture.md."""
    assert {f.stem for f in ROOT.glob("*.py")} == NOUNS | {"__init__", "__main__"}
    page = (ROOT.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {room(m) for m in FILES} - NOUNS - {"", "__main__"}
    assert {r for r in rooms if f"`{r}/`" not in page} == set()


PARTICIPLE = re.compile(r"(?:.*[a-z]ed|asked|brought|known|said|seen|told|wanted|.*_(?:as|of))")
# Names that end so and are the field's own word, or that of a published method.
WORDS = {
    *("damaged", "imbalanced", "mislabelled", "rotated", "undertrained"),  # faults, as their papers say
    *("combined", "decoupled", "vmapped"),  # a combination of methods; decoupled networks; torch.vmap
    *("batched", "extended", "paired", "published"),  # adjectives: populations, a table, a comparison
    *("isolated", "prepared", "speed"),  # an engine; the stage after `prepare`; no participle
}


def test_no_module_is_a_bare_participle() -> None:
    """A module is named by what it holds, not by what has been done to it."""
    root = ROOT.parent
    folders = (root / name for name in ("airepair", "benchmarks", "fixtures", "reports"))
    stems = {file.stem for folder in folders for file in folder.rglob("*.py")}
    assert {stem for stem in stems if PARTICIPLE.fullmatch(stem)} <= WORDS


# Participles of which no reader can guess what a function of that name returns.
VAGUE = re.compile(r"_?(?:asked|brought|done|fed|given|known|made|met|said|seen|told|wanted|kept|found)")
VAGUE_WORDS = {("metrics/kept.py", "kept")}  # the name of the metric


def test_functions_are_named_by_what_they_return_or_do() -> None:
    """Not by a bare participle that says neither; a function within a function is its own affair."""
    vague = {
        (file.relative_to(ROOT).as_posix(), inner.name)
        for file in FILES.values()
        for outer in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(outer, ast.Module | ast.ClassDef)
        for inner in outer.body
        if isinstance(inner, ast.FunctionDef) and VAGUE.fullmatch(inner.name)
    }
    assert vague == VAGUE_WORDS


def test_no_modules_import_each_other() -> None:
    """Taking away what imports nothing that is left, again and again, takes everything away."""
    left = imports()
    while done := {m for m, targets in left.items() if not targets & left.keys()}:
        left = {m: targets for m, targets in left.items() if m not in done}
    assert left == {}


def test_arrows_between_rooms_only_become_fewer() -> None:
    """Counted with those to the nouns and without."""
    found = arrows()
    assert len(found) <= ARROWS
    assert len({(a, b) for a, b in found if b not in NOUNS}) <= ARROWS_OF_ROOMS


def within_functions() -> Iterator[tuple[str, str]]:
    """(module, what it imports) for each import statement within a function."""
    for module, file in FILES.items():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        for node in {n for f in functions for n in ast.walk(f) if isinstance(n, ast.Import | ast.ImportFrom)}:
            name = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
            yield module.removeprefix("airepair."), str(name)


def test_imports_within_functions_have_a_reason() -> None:
    """An import stands at the top of its file, but for an extra, and for what a process that needs
    neither torch nor numpy must not load.
    """
    found = list(within_functions())
    assert len(found) <= IN_FUNCTIONS
    other = [(m, name) for m, name in found if name.partition(".")[0] not in LATE_LIBRARIES]
    assert {m for m, _ in other} == LATE.keys(), other


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[CellSpec, Path, Loader]:
    """A finetune cell of digits' fully connected network that has run once: its spec, the cache, and
    the loader that holds its subject.
    """
    cache, shared = tmp_path_factory.mktemp("cache"), Shared(device="cpu")
    case = Case("digits", "fc", "finetune", 0)
    spec = cell_spec(shared, case, chosen_options(case, "fc", shared.profile_of("digits"), {"epochs": 1}))
    loader = Loader(cache)
    run_cell(spec, cache=cache, load=loader)
    return spec, cache, loader


def entered(spec: CellSpec, cache: Path, loader: Loader) -> list[str]:
    """The files of airepair that the cell enters, from its spec to its result."""
    codes: set[CodeType] = set()
    theirs = [0]  # frames of metrics/ and report/ on the stack: what these call is theirs

    def enter(frame: FrameType, event: str, _: object) -> None:
        if event not in ("call", "return"):
            return
        if frame.f_code.co_filename.startswith((f"{ROOT}/metrics/", f"{ROOT}/report/")):
            theirs[0] += 1 if event == "call" else -1
        elif event == "call" and not theirs[0]:
            codes.add(frame.f_code)

    sys.setprofile(enter)
    try:
        result = run_cell(spec, cache=cache, load=loader)
    finally:
        sys.setprofile(None)
    assert result.record.status == "repaired"
    paths = {Path(code.co_filename) for code in codes if code.co_name != "<module>"}
    return sorted(p.relative_to(ROOT).as_posix() for p in paths if p.is_relative_to(ROOT))


def test_a_cell_enters_few_files(finetuned: tuple[CellSpec, Path, Loader]) -> None:
    """As it does in a run: a worker's cells of one subject follow each other."""
    found = entered(*finetuned)
    assert "methods/finetune.py" in found
    assert len(found) <= ENTERED, found


def test_a_cell_with_its_subject_enters_few_files(finetuned: tuple[CellSpec, Path, Loader]) -> None:
    """The first cell of a subject, its baseline being in the cache."""
    spec, cache, _ = finetuned
    found = entered(spec, cache, Loader(cache))
    assert "subjects/baseline.py" in found
    assert len(found) <= ENTERED_WITH_ITS_SUBJECT, found
