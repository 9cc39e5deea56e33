"""What mkdocs does beside docs/: the reference pages from the code, and the committed reports."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from airepair.methods import METHODS
from docs.hooks.reference import pages

ROOT = Path(__file__).parents[2]
# Files outside docs/ that are pages of the site, by their address there.
BESIDE = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
OUTSIDE = re.compile(r"\]\((?:\.\./)+((?:reports/|CONTRIBUTING|CHANGELOG)[^)#]*)")
TITLES = {
    "table1": "Table I: all methods",
    "table2": "Table II: faults with a known cause",
    "table3": "Table III: is it the idea?",
    "extended": "Every metric",
    "cost": "Costs",
    "paired": "Paired tests",
    "verdict": "Verdict",
    "false_positives": "How often equal models seem to differ",
    "makespan": "Makespans",
    "scale": "Many records",
    "score": "Mutants",
}
VERDICT = re.compile(r"(<!-- (reports/[\w/-]+\.md) -->\n)(<!-- end -->)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fills in the parts of the navigation that follow from the code and from what is committed."""
    methods = [{name: f"reference/methods/{name}.md"} for name in METHODS.builtin]
    parts: dict[str, list[Any]] = {
        "Methods": ["reference/methods/index.md", *methods],
        "Results": results(),
    }
    config.nav = filled(config.nav or [], parts)
    return config


def filled(nav: list[Any], parts: dict[str, list[Any]]) -> list[Any]:
    """The navigation with these parts in the place of empty lists of their names."""
    found = []
    for entry in nav:
        if isinstance(entry, dict):
            ((name, inner),) = entry.items()
            inner = parts[name] if inner == [] else inner
            entry = {name: filled(inner, parts) if isinstance(inner, list) else inner}
        found.append(entry)
    return found


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that do not lie in docs/."""
    for uri, text in pages().items():
        files.append(File.generated(config, uri, content=text))
    for path in shown():
        files.append(File.generated(config, address(path), abs_src_path=str(path)))
    for name, uri in BESIDE.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, uri, content=text.replace("](docs/", "](")))
    return files


def shown() -> list[Path]:
    """The committed reports: tables as Markdown, the picture, and the reasons that a page links."""
    found = (p for kind in ("*.md", "*.svg", "*.toml") for p in (ROOT / "reports").rglob(kind))
    return sorted(p for p in found if p.relative_to(ROOT).parts[1] != "out")


def address(path: Path) -> str:
    """Where a committed report is on the site."""
    return path.relative_to(ROOT).as_posix()


def results() -> list[Any]:
    """The committed reports in the navigation: those over all subjects, then a part for each folder."""
    parts: dict[str, list[Any]] = {}
    for path in shown():
        if path.suffix == ".md":
            folder = path.parent.relative_to(ROOT / "reports").as_posix()
            parts.setdefault(folder, []).append({TITLES.get(path.stem, path.stem): address(path)})
    return [*parts.pop(".", []), *({folder: inner} for folder, inner in parts.items())]


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links out of docs/ lead to the page of the site, and a committed verdict is put where it is named."""
    folder = posixpath.dirname(page.file.src_uri)

    def inside(found: re.Match[str]) -> str:
        target = BESIDE.get(found[1], found[1])
        return "](" + posixpath.relpath(target, folder or ".")

    with_verdict = VERDICT.sub(lambda m: m[1] + (ROOT / m[2]).read_text(encoding="utf-8") + m[3], markdown)
    return OUTSIDE.sub(inside, with_verdict)
