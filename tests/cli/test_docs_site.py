"""The docs site: every page is in its navigation, its reference equals the code, its links lead
somewhere. `tox -e docs` builds it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from airepair.cli.main import COMMANDS, parser_of
from airepair.data import DATASETS
from airepair.faults import FAULTS
from airepair.methods import METHODS
from airepair.metrics import METRICS
from airepair.options import describe
from airepair.records.schema import Line
from docs.hooks.record_page import described, within
from docs.hooks.reference import pages

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
WRITTEN = {p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md")}
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
BESIDE = {"contributing.md", "changelog.md"}  # written by docs/hooks/site.py
FENCED = re.compile(r"^```.*?^```|`[^`\n]+`", re.DOTALL | re.MULTILINE)
OTHER_NAMES = {"set": "assignments"}  # option -> the name of its value within the suite
LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def reference() -> dict[str, str]:
    """The generated pages."""
    return pages()


def leaves(nav: Any) -> list[str]:
    """The pages that a navigation names."""
    if isinstance(nav, str):
        return [nav]
    return [p for part in (nav.values() if isinstance(nav, dict) else nav) for p in leaves(part)]


def test_every_page_is_in_the_navigation(reference: dict[str, str]) -> None:
    """Once, and no page that there is not. Methods and results are filled in from the code."""
    named = leaves(CONFIG["nav"])
    generated = {uri for uri in reference if not uri.startswith("reference/methods/")}
    assert len(named) == len(set(named))
    assert set(named) == WRITTEN | generated | BESIDE


def test_links_of_the_pages_lead_to_files() -> None:
    """Those of docs/, README, CONTRIBUTING and CHANGELOG, to other files of the repository; pages that
    are generated count.
    """
    made = {DOCS / uri for uri in pages()}
    for page in [
        *(DOCS / uri for uri in sorted(WRITTEN)),
        *ROOT.glob("*.md"),
        ROOT / "changelog.d/README.md",
    ]:
        for target in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
            if target.startswith(("http", "#", "mailto:")):
                continue
            file = Path(*(page.parent / target.partition("#")[0]).parts).resolve()
            assert file.exists() or file in made, f"{page.relative_to(ROOT)} links to {target}"


# Files of the reader's own, or of another package.
OF_READERS = {"shrink.py", "tiles.py", "graph_pb2.py", "file.py", "train_baseline.py", "test_new.py"}


def docstrings() -> Iterator[tuple[Path, str]]:
    """Every docstring of the package and the suite, with its file."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef
    for room in ("airepair", "benchmarks", "fixtures", "reports", "docs/hooks"):
        for file in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, documented):
                    yield file, ast.get_docstring(node) or ""


def test_modules_that_docstrings_name_exist() -> None:
    """A path may begin in any folder."""
    files = [f"/{p.relative_to(ROOT).as_posix()}" for p in ROOT.rglob("*.py")]
    for file, text in docstrings():
        for name in re.findall(r"(?<![\w./-])([a-z_]+(?:/[a-z_]+)*\.py)\b", text):
            found = any(path.endswith(f"/{name}") for path in files)
            assert found or name.rpartition("/")[2] in OF_READERS, f"{file.relative_to(ROOT)} names {name}"


def test_modules_that_the_pages_name_exist() -> None:
    """A path in backticks may begin in any folder."""
    files = [f"/{p.relative_to(ROOT).as_posix()}" for p in ROOT.rglob("*.py")]
    for page in [*DOCS.rglob("*.md"), *ROOT.glob("*.md")]:
        for name in re.findall(r"`([\w/]+\.py)`", page.read_text(encoding="utf-8")):
            found = any(file.endswith(f"/{name}") for file in files)
            assert found or name.rpartition("/")[2] in OF_READERS, f"{page.relative_to(ROOT)} names {name}"


@pytest.mark.parametrize("name", METHODS.builtin)
def test_the_card_of_a_method_is_a_page(reference: dict[str, str], name: str) -> None:
    """With its category, every option with its default, and every ablation."""
    cls, page = METHODS.get(name), reference[f"reference/methods/{name}.md"]
    assert f"**Category**: {cls.category}\n" in page
    for option in describe(cls):
        default = ",".join(map(str, option.default)) if isinstance(option.default, tuple) else option.default
        assert f"| `{option.name}` | `{default}` |" in page
    assert all(f"`{name}[{ablation}]`" in page for ablation in cls.ablations)
    assert f"[`{name}`]({name}.md)" in reference["reference/methods/index.md"]


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_has_a_definition_and_says_when_it_is_missing(reference: dict[str, str], name: str) -> None:
    """From the docstring of its function."""
    (row,) = re.findall(
        rf"^\| `{name}` \| (.+?) \| (.+?) \| ", reference["reference/metrics.md"], re.MULTILINE
    )
    assert len(row[0]) > 10
    assert len(row[1]) > 10


@pytest.mark.parametrize("name", FAULTS.builtin)
def test_a_fault_has_a_section_with_its_options(reference: dict[str, str], name: str) -> None:
    """The seed is the cell's."""
    section = reference["reference/faults.md"].split(f"\n## `{name}`\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == {
        o.name for o in describe(FAULTS.get(name)) if o.name != "seed"
    }


def test_every_data_set_has_a_row(reference: dict[str, str]) -> None:
    """On the page of data sets and architectures."""
    assert all(f"| `{name}` | " in reference["reference/data-sets.md"] for name in DATASETS.builtin)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_is_on_its_page_with_its_help(
    reference: dict[str, str], command: str
) -> None:
    """An option without help is one that nobody can use."""
    section = reference["reference/commands.md"].split(f"\n## `airepair {command}`\n")[1].split("\n## ")[0]
    for action in parser_of(command)._actions:
        assert action.help, f"airepair {command}: {action.option_strings or action.dest} has no help"
        if "--help" not in action.option_strings:
            assert all(f"`{name}" in section for name in action.option_strings)


def test_the_options_of_the_benchmark_are_those_that_pytest_has(
    reference: dict[str, str], pytestconfig: pytest.Config
) -> None:
    """Every option that the plug-ins of the suite declare, and each one is known to this pytest."""
    shown = set(re.findall(r"^\| `--([\w-]+)", reference["reference/benchmark-options.md"], re.MULTILINE))
    known = {
        key.removeprefix("airepair_") for key in vars(pytestconfig.option) if key.startswith("airepair_")
    }
    assert {OTHER_NAMES.get(name, name.replace("-", "_")) for name in shown} == known


def structs(kind: type) -> list[type]:
    """A struct and those within it."""
    inner = [s for part in msgspec.structs.fields(kind) for s in within(part.type)]
    return [kind, *(s for i in inner for s in structs(i))]


@pytest.mark.parametrize("kind", structs(Line), ids=lambda kind: kind.__name__)
def test_every_field_of_a_record_is_explained(reference: dict[str, str], kind: type) -> None:
    """In the schema itself, from which the page is made."""
    page = reference["reference/records.md"]
    for part in msgspec.structs.fields(kind):
        assert described(part.type)[1], f"{kind.__name__}.{part.name} has no description"
        assert f"| `{part.encode_name}` | " in page


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """As `tox -e docs` builds it: a link or an anchor that leads nowhere is a warning."""
    config = pytest.importorskip("mkdocs.config")
    build = pytest.importorskip("mkdocs.commands.build")
    build.build(config.load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site"), strict=True))
    assert (tmp_path / "site" / "reference" / "methods" / "apricot.html").is_file()
