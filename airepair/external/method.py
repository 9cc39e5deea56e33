"""External tools as repair methods: `--method tool:NAME`, or `airepair.external.method:NAME`, where
NAME is the folder with the manifest.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import nn

from airepair.errors import UsageError
from airepair.external import environment, exchange, process
from airepair.external.manifest import Manifest, find
from airepair.options import option
from airepair.types import Category, Method, Source, Task


@dataclass(frozen=True)
class ExternalTool:
    """Runs the tool as a child process in its own environment; `method_of` makes a class with the
    tool's options.
    """

    name: ClassVar[str]
    category: ClassVar[Category]
    paper: ClassVar[str]
    sources: ClassVar[frozenset[Source]]
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]]
    needs: ClassVar[str]
    manifest: ClassVar[Manifest]

    def budget(self, task: Task) -> int:
        """The manifest's passes over train and failing; 0 if it states none."""
        factors = [f if isinstance(f, int) else int(getattr(self, f)) for f in self.manifest.passes]
        return math.prod(factors) * len(task.labelled) if factors else 0

    def repair(self, task: Task) -> nn.Module:
        """Returns the module with the tool's weights; Unavailable if its environment is missing."""
        python = environment.of(self.manifest).require().python
        if not len(task.failing):
            return task.module
        options = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        log = new_log(self.name, task.logs)
        task.note(
            f"the tool's log: {log if task.logs is None else f'tools/{log.name} in the folder of the cell'}"
        )
        with tempfile.TemporaryDirectory(prefix=f"airepair-{self.name}-") as name:
            folder = Path(name)
            exchange.write(folder, task, self.manifest.model, options)
            filled = {
                "python": python,
                "folder": self.manifest.folder,
                "job": folder,
                "seed": task.seed,
                **options,
            }
            seconds = min(self.manifest.timeout, task.limit.seconds or self.manifest.timeout)
            process.run(
                [word.format_map(filled) for word in self.manifest.command],
                log,
                seconds=seconds,
                memory_gb=self.manifest.memory_gb,
                cwd=folder,
                heard=lambda line: pass_on(line, task),
            )
            return exchange.read(folder, task, self.manifest.result)


def pass_on(line: str, task: Task) -> None:
    """Reports a line {"progress": [phase, step, steps, loss]}; other lines are for the log only."""
    if not line.startswith('{"progress"'):
        return
    try:
        phase, step, steps, loss = json.loads(line)["progress"]
        found = str(phase), int(step), int(steps), float(loss)
    except (ValueError, TypeError, KeyError):
        return
    task.progress(*found)


def new_log(name: str, folder: Path | None) -> Path:
    """Returns an empty log file in the folder, or in the system's temporary one if there is none."""
    handle, path = tempfile.mkstemp(prefix=f"{name}-", suffix=".log", dir=folder)
    os.close(handle)
    return Path(path)


def method_of(manifest: Manifest) -> type[Method]:
    """Returns the tool as a method: its options are the manifest's."""
    namespace = {
        "name": manifest.name,
        "category": manifest.category,
        "paper": manifest.paper,
        "sources": frozenset(manifest.sources),
        "ablations": manifest.ablations,
        "needs": f"its environment: airepair env create {manifest.folder.name}",
        "manifest": manifest,
        "__doc__": manifest.about or manifest.paper,
        "__module__": __name__,
    }
    fields = [_field(manifest, name, dict(raw)) for name, raw in manifest.options.items()]
    made: Any = dataclasses.make_dataclass(
        manifest.name, fields, bases=(ExternalTool,), namespace=namespace, frozen=True
    )
    found: type[Method] = made
    return found


def _field(manifest: Manifest, name: str, raw: dict[str, Any]) -> tuple[str, Any, Any]:
    choices = tuple(raw.pop("choices", ()))
    try:
        default = raw.pop("default")
        kind: Any = Literal[choices] if choices else type(default)
        return name, kind, option(default, raw.pop("help"), **raw)
    except (KeyError, TypeError) as error:
        raise UsageError(
            f"{manifest.folder}/tool.toml: option {name!r}: {error}; accepted: default, help, low, high, "
            f"source, choices"
        ) from error


def __getattr__(name: str) -> type[Method]:
    """`airepair.external.method:NAME` is the tool of that name."""
    if name.startswith("__"):
        raise AttributeError(name)
    return method_of(find(name))
