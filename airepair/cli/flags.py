"""The options of every door, declared once. From this table come the options of pytest (`airepair bench`),
the command line of `airepair repair`, the keys of a run's config.toml, and what other commands share
with them.

A door that means something of its own by an option states what differs there. An option that one
command alone has is declared by that command. (Longer than a file of code, since it is one table.)
"""

from __future__ import annotations

import argparse
from argparse import BooleanOptionalAction
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from airepair.host.arithmetic.setup import NATIVE
from airepair.models.layouts import LAYOUTS
from airepair.records import FINISHED, STATUSES
from airepair.report.gate.defaults import LEVEL, RULES
from airepair.runner.storage import Keep
from airepair.settings import profiles

Door = Literal[
    "bench",
    "repair",
    "tune",
    "train",
    "cell",
    "merge",
    "convert",
    "solve",
    "compare",
    "table",
    "findings",
    "list",
]
UNFINISHED = tuple(status for status in STATUSES if status not in FINISHED)
# Groups of pytest's options: name -> heading.
GROUPS = {
    "airepair": "AIREPAIR: which cells run and where their results go",
    "airepair-pretrained": "AIREPAIR: model files of your own (see docs/bringing-a-model.md)",
    "airepair-engine": "AIREPAIR: cells on a cluster (see docs/ray.md)",
    "airepair-isolation": "AIREPAIR: cells in processes of their own (docs/reliability.md)",
    "airepair-gate": "AIREPAIR: the gate (docs/reports.md, Comparing with a baseline)",
}
WHICH, OWN, ENGINE, ISOLATION, GATE = GROUPS
# Groups of `airepair repair`: heading -> text below it.
SECTIONS = {
    "what is repaired": None,
    "how": None,
    "instead of a repair": None,
    "files": None,
    "cells in processes of their own": "What a method does to its process then costs its own cell alone.",
    "a model file of your own": "Each of these but --failing, --keep and --trust-* may also be set in "
    "STEM.toml or subject.toml beside the file; the file's own metadata has the lowest precedence.",
}
WHAT, HOW, INSTEAD, FILES, ISOLATED, FEEDING = SECTIONS


@dataclass(frozen=True)
class Use:
    """It is an option at one door: its group there, and the arguments of argparse that differ there."""

    group: str
    differs: Mapping[str, Any]


def at(group: str = "", **differs: Any) -> Use:
    """Returns an option at a door; `differs`: arguments of argparse that are others there."""
    return Use(group, differs)


@dataclass(frozen=True)
class Flag:
    """It is one option.

    name     as it is written, with both dashes; `also` are other spellings on the command line
    kind     the type of its value; bool is a flag without a value
    doors    where it exists
    several  it may be given repeatedly, and all its values count
    config   how a run's config.toml holds it: not at all, as it was given, or as a path made absolute
    dest     its name in the namespace, if that is not its own
    """

    name: str
    help: str
    doors: Mapping[Door, Use]
    kind: type = str
    metavar: str | None = None
    default: Any = None
    choices: tuple[str, ...] | None = None
    several: bool = False
    also: tuple[str, ...] = ()
    config: Literal["", "value", "path"] = ""
    dest: str = ""
    action: Any = field(default=None)

    @property
    def key(self) -> str:
        """Returns its name in a namespace and in config.toml."""
        return self.dest or self.name.removeprefix("--").replace("-", "_")

    def about(self, door: Door) -> dict[str, Any]:
        """Returns the arguments of argparse, and of pytest's `addoption`, at that door.

        `airepair repair` has no defaults: what the command line leaves open config.toml may say.
        """
        found: dict[str, Any] = {"help": self.help, "metavar": self.metavar, "choices": self.choices}
        if self.action is not None or self.kind is bool:
            found["action"] = self.action or "store_true"
        elif self.several:
            found |= {"action": "append", "default": []}
        elif self.kind is not str and not (door == "bench" and self.kind is Path):
            found["type"] = self.kind  # (a path stays text in pytest: xdist sends options to its workers)
        if self.default is not None:
            found["default"] = self.default
        if door == "repair":
            found.pop("default", None)
        return {
            name: value
            for name, value in (found | dict(self.doors[door].differs)).items()
            if value is not None
        }


TUNING_SEEDS = "100,101,102"  # with one, settings won that failed on other seeds (docs/tuning.md)
DEPTH = "depth of a resnet: 18, 34, 50 or 20, 32, 44, 56"
RESNET = at(help="depth of a resnet")
INPUTS = "npz:PATH|folder:PATH"

TABLE: tuple[Flag, ...] = (
    Flag(
        "--pretrained",
        "a model file of any format of docs/formats.md (default: ours)",
        {
            "repair": at(WHAT),
            "bench": at(
                OWN, help="adds a model file's cells (repeat for several)", action="append", default=[]
            ),
        },
        metavar="FILE",
        also=("--pre-trained",),
        config="path",
    ),
    Flag(
        "--dataset",
        "mnist, fmnist, cifar10, cifar100, digits, npz:PATH or folder:PATH",
        {
            "repair": at(WHAT),
            "bench": at(
                WHICH,
                help="exactly these datasets (commas, or repeat)",
                metavar="A,B",
                action="append",
                default=[],
            ),
            "tune": at(help="data sets (default: digits)", metavar="A,B", default="digits"),
            "train": at(help="a registered data set, npz:PATH or folder:PATH", required=True),
        },
        metavar="NAME",
        config="path",
    ),
    Flag(
        "--model",
        "exactly these models (commas, or repeat)",
        {
            "bench": at(WHICH, action="append", default=[]),
            "tune": at(help="models (default: fc,cnn)", default="fc,cnn"),
        },
        metavar="A,B",
    ),
    Flag(
        "--net_arch",
        "architecture: resnet, cnn, mnist, fmnist, fc, a name of `airepair list models`, "
        "package.module:factory or file.py:Net; detected from the file if possible",
        {
            "repair": at(WHAT),
            "bench": at(
                OWN, help="its architecture: a name, package.module:factory or file.py:Net", metavar="NAME"
            ),
            "train": at(
                help="resnet (with --depth), mnist, fmnist, or a name of `airepair list models`; "
                "append +FAULT for a faulty subject",
                required=True,
            ),
            "convert": at(
                help="network of a bare state dict: resnet (with --depth), mnist, fmnist, "
                "a name of `airepair list models`, or code of your own, "
                "which is run: package.module:factory or file.py:Net"
            ),
            "solve": at(help="whose weights a bare state dict holds (see airepair list models)"),
        },
        metavar="ARCH",
        also=("--net-arch",),
        config="path",
    ),
    Flag(
        "--depth",
        DEPTH,
        {"repair": at(WHAT), "bench": at(OWN), "train": at(), "convert": RESNET, "solve": RESNET},
        kind=int,
        metavar="N",
        config="value",
    ),
    Flag(
        "--width",
        "channels of a resnet's stem (64; 16 for the ResNet-20 family)",
        {"train": at(), "convert": at()},
        kind=int,
        metavar="N",
    ),
    Flag(
        "--all",
        "every method (or --method) on every pre-trained model",
        {"repair": at(WHAT)},
        kind=bool,
        config="value",
    ),
    Flag(
        "--models",
        "with --all: the folder of model files (default: the trained baselines)",
        {"repair": at(WHAT)},
        kind=Path,
        metavar="DIR",
        config="path",
    ),
    Flag(
        "--method",
        "one or more of `airepair list methods`, a+b, package.module:Class, tool:NAME",
        {
            "repair": at(HOW, nargs="+", metavar="M", action=None),
            "bench": at(WHICH, help="these methods, on digits with their ablations (commas, or repeat)"),
            "tune": at(help="methods (default: all that have a tuning space)", action=None, default=""),
        },
        metavar="A,B",
        several=True,
        config="value",
    ),
    Flag(
        "--auto",
        "also run METHOD[tuned] if `airepair tune` has found settings for the data set and model",
        {"repair": at(HOW), "bench": at(WHICH)},
        kind=bool,
        config="value",
    ),
    Flag(
        "--additional_param",
        "`--lr 0.01` goes to every method with that option, `--apricot.rate 0.5` to apricot only",
        {"repair": at(HOW)},
        metavar='"--lr 0.01"',
        several=True,
        also=("--additional-param",),
    ),
    Flag(
        "--set",
        "an option of one method",
        {"repair": at(HOW), "bench": at(WHICH)},
        metavar="METHOD.OPTION=VALUE",
        several=True,
        dest="assignments",
    ),
    Flag(
        "--seeds",
        "seeds (default: 0)",
        {
            "repair": at(HOW),
            "bench": at(WHICH, help="seeds of every cell (default: the profile's)"),
            "tune": at(
                help="tuning seeds, each trial is the mean over them (default: %(default)s)",
                default=TUNING_SEEDS,
            ),
        },
        metavar="0,1,2",
        also=("--seed",),
        config="value",
    ),
    Flag(
        "--profile",
        f"how much data is used, and how many seeds: {', '.join(profiles())} (default: the data set's)",
        {
            "repair": at(
                HOW,
                help=f"data budget: {', '.join(profiles())}, or none for the whole data set "
                "(default: the grid's)",
            ),
            "bench": at(WHICH),
            "tune": at(),
        },
        metavar="NAME",
        config="value",
    ),
    Flag(
        "--time-limit",
        "time limit of one repair",
        {"repair": at(HOW), "bench": at(WHICH)},
        kind=float,
        metavar="SECONDS",
        config="value",
    ),
    Flag(
        "--seconds",
        "time limit of each repair (default: none)",
        {"tune": at(), "solve": at(help="time limit of the solver (default: 120)", default=120.0)},
        kind=float,
    ),
    Flag(
        "--device",
        "where it runs: auto, cpu, cuda or cuda:N (default: auto)",
        {
            "repair": at(HOW),
            "bench": at(WHICH),
            "tune": at(),
            "train": at(),
            "cell": at(help="where it runs (default: the plan's)", default=None),
        },
        metavar="auto|cpu|cuda",
        default="auto",
        config="value",
    ),
    Flag(
        "--native",
        NATIVE,
        {"repair": at(HOW), "bench": at(WHICH), "tune": at(), "train": at(), "cell": at()},
        kind=bool,
        config="value",
    ),
    Flag(
        "--pgd",
        "also attack every model by projected gradient descent",
        {
            "repair": at(HOW),
            "bench": at(WHICH, help="also attack every model (profiles smoke, digits, paper and gpu do)"),
        },
        kind=bool,
        config="value",
    ),
    Flag("--json", "one JSON object instead of text", {"list": at(), "solve": at()}, kind=bool),
    Flag(
        "--format",
        "the form of the table",
        {"compare": at(), "table": at(help="its form, if it is a table")},
        default="txt",
        choices=("txt", "md", "tex", "csv"),
    ),
    Flag(
        "--audit",
        "count the operations of each repair; fail it if its images do not explain them (CPU only; slower)",
        {"bench": at(WHICH)},
        kind=bool,
    ),
    Flag(
        "--ablations",
        "also cells METHOD[ABLATION], with only the method's own idea off (default: for digits)",
        {"bench": at(WHICH)},
        action=BooleanOptionalAction,
    ),
    Flag(
        "--testonly",
        "evaluate the model without repair: accuracy, constraint, confusion",
        {"repair": at(INSTEAD)},
        kind=bool,
        also=("--test-only",),
    ),
    Flag(
        "--input_logs",
        "show the results of an earlier run",
        {"repair": at(INSTEAD)},
        kind=Path,
        metavar="FILE|DIR",
        also=("--input-logs",),
    ),
    Flag(
        "--config",
        "re-run an earlier config.toml; command-line options override it",
        {"repair": at(FILES)},
        kind=Path,
        metavar="FILE",
    ),
    Flag(
        "--out",
        "folder of the results",
        {
            "repair": at(FILES, help="folder of this run, new or empty (default: runs/DATE-TIME-SUBJECT)"),
            "bench": at(WHICH, help="where records and reports go (default: reports/out)"),
            "tune": at(
                help="folder for trials and the table (default: %(default)s)", default=Path("reports/tuning")
            ),
            "train": at(help="folder (default: DATASET-MODEL-sSEED here)"),
            "cell": at(help="where the record and the cell's files go", required=True),
            "merge": at(help="a new folder", required=True),
            "compare": at(help="also write gate.json, gate.md (a step summary) and gate-badge.json there"),
            "table": at(help="also write every report in every form into this folder"),
            "findings": at(help="where the page is written (default: it is printed)", metavar="FILE"),
        },
        kind=Path,
        metavar="DIR",
    ),
    Flag(
        "--keep-models",
        "which repaired weights are kept",
        {"bench": at(WHICH), "merge": at(), "cell": at(default="all")},
        default="best",
        choices=get_args(Keep),
    ),
    Flag(
        "--report",
        "output at the end: the verdict on one screen (short), Tables I to III (full), or paths only (none)",
        {"bench": at(WHICH)},
        default="short",
        choices=("full", "short", "none"),
    ),
    Flag(
        "--resume",
        "keep the records that are there and run only the other cells",
        {"bench": at(WHICH)},
        kind=bool,
    ),
    Flag(
        "--rerun",
        f"--resume, but of unfinished cells only these: {', '.join(s.replace(' ', '-') for s in UNFINISHED)}",
        {"bench": at(WHICH)},
        metavar="A,B",
    ),
    Flag(
        "--join",
        "--resume in a folder in which another run may be: they share its cells",
        {"bench": at(WHICH)},
        kind=bool,
    ),
    Flag(
        "--gpus",
        "which of the visible GPUs are used, counted from 0 (default: auto, all of them)",
        {"bench": at(WHICH)},
        metavar="auto|none|0,1",
        default="auto",
    ),
    Flag(
        "--workers-per-gpu",
        "workers that share a GPU (default: 1); -n auto starts that many for each",
        {"bench": at(WHICH)},
        kind=int,
        metavar="N",
        default=1,
    ),
    Flag(
        "--plan",
        "write the spec of each selected cell into this folder and run nothing (airepair plan)",
        {
            "bench": at(WHICH),
            "merge": at(help="the folder of `airepair plan`: says which cells have no record"),
        },
        kind=Path,
        metavar="DIR",
    ),
    Flag(
        "--engine",
        "where cells run: in this process and its workers, or on a Ray cluster",
        {"bench": at(ENGINE)},
        default="local",
        choices=("local", "ray"),
    ),
    Flag(
        "--ray-address",
        "a running Ray cluster (default: one of this machine, for this run)",
        {"bench": at(ENGINE)},
        metavar="HOST:PORT|auto",
    ),
    Flag(
        "--ray-wait",
        "seconds to wait for a node before the run ends with its tables (default: %(default)g)",
        {"bench": at(ENGINE)},
        kind=float,
        metavar="SECONDS",
        default=300.0,
    ),
    Flag(
        "--isolate",
        "run every cell in a process of its own (--no-isolate: none; default: those of plug-in methods and "
        "external tools)",
        {"bench": at(ISOLATION), "repair": at(ISOLATED), "tune": at()},
        kind=bool,
        action=BooleanOptionalAction,
        config="value",
    ),
    Flag(
        "--isolate-memory",
        "most host memory of an isolated cell and all that it starts (default: no limit)",
        {"bench": at(ISOLATION), "repair": at(ISOLATED), "tune": at()},
        kind=float,
        metavar="GIB",
        config="value",
    ),
    Flag(
        "--isolate-gpu-memory",
        "most GPU memory of an isolated cell (default: no limit)",
        {"bench": at(ISOLATION), "repair": at(ISOLATED), "tune": at()},
        kind=float,
        metavar="GIB",
        config="value",
    ),
    Flag(
        "--isolate-output",
        "how much of the end of an isolated cell's output is kept (default: 1)",
        {"bench": at(ISOLATION), "repair": at(ISOLATED), "tune": at()},
        kind=float,
        metavar="MIB",
        default=1.0,
        config="value",
    ),
    Flag(
        "--input-range",
        "pixel range that the network expects: 0..255, 0..1, or =-1..1 (a minus needs the =)",
        {"repair": at(FEEDING), "bench": at(OWN)},
        metavar="LOW..HIGH",
        config="value",
    ),
    Flag(
        "--mean",
        "subtracted after that: one number, or one per channel, in the units of the range",
        {"repair": at(FEEDING), "bench": at(OWN)},
        metavar="M[,M,M]",
        config="value",
    ),
    Flag(
        "--std",
        "divided by after that",
        {"repair": at(FEEDING), "bench": at(OWN)},
        metavar="S[,S,S]",
        config="value",
    ),
    Flag(
        "--layout",
        "axes of the network's input, if the file does not state them: NHW is grey without a channel "
        "axis, flat a vector of channel after channel, flat-NHWC one of pixel after pixel, "
        "flat-column and flat-row N x F x 1 and N x 1 x F",
        {"repair": at(FEEDING), "bench": at(OWN)},
        metavar="|".join(LAYOUTS),
        config="value",
    ),
    Flag(
        "--colours",
        "order of the channels",
        {"repair": at(FEEDING), "bench": at(OWN)},
        metavar="rgb|bgr",
        config="value",
    ),
    Flag(
        "--classes",
        "class names, one per line, in the order of the network's outputs",
        {"repair": at(FEEDING), "bench": at(OWN)},
        metavar="FILE",
        config="path",
    ),
    Flag(
        "--trained-on",
        '"official train" (default), "split", "unknown" or ranges such as 0..39999',
        {"repair": at(FEEDING), "bench": at(OWN)},
        metavar="TEXT",
        config="value",
    ),
    Flag(
        "--early",
        "an earlier state of the same training, where Apricot's submodels start (default: "
        "early.pt of `airepair train` beside it)",
        {"repair": at(FEEDING), "bench": at(OWN)},
        metavar="FILE",
        config="path",
    ),
    Flag(
        "--weights",
        "which weights to use if a checkpoint holds several: model, model_ema, ...",
        {"repair": at(FEEDING), "bench": at(OWN), "convert": at()},
        metavar="KEY",
        config="value",
    ),
    Flag(
        "--trust-pickle",
        "let the file run code when it is read (TorchScript, pickled module); only if you trust its origin",
        {"repair": at(FEEDING), "bench": at(OWN), "convert": at(), "solve": at()},
        kind=bool,
        config="value",
    ),
    Flag(
        "--trust-lambda",
        "the same for Keras Lambda layers",
        {"repair": at(FEEDING), "bench": at(OWN), "convert": at()},
        kind=bool,
        config="value",
    ),
    Flag(
        "--failing",
        "the inputs to repair with their wanted labels (default: the failing inputs of the repair split)",
        {"repair": at(FEEDING), "bench": at(OWN)},
        metavar=INPUTS,
        config="path",
    ),
    Flag(
        "--keep",
        "inputs whose answers must not change",
        {"repair": at(FEEDING), "bench": at(OWN)},
        metavar=INPUTS,
        config="path",
    ),
    Flag(
        "--baseline",
        "compare with the records of that file or folder at the end",
        {"bench": at(GATE)},
        metavar="RUN",
    ),
    Flag(
        "--fail-if",
        "[METHOD/]METRIC:-0.5pp, METRIC:-1%% of the old value, METRIC:off, missing:off; may be repeated "
        f"(default: pytest.ini or pyproject.toml here, else {' '.join(RULES)})",
        {"bench": at(GATE), "compare": at()},
        metavar="RULE",
        several=True,
    ),
    Flag(
        "--level",
        f"how sure a decision must be (default: the same files, else {LEVEL})",
        {"bench": at(GATE), "compare": at()},
        kind=float,
        metavar="SHARE",
    ),
)


def flags_of(door: Door) -> Iterator[Flag]:
    """Yields the options of a door, in the order of the table."""
    return (flag for flag in TABLE if door in flag.doors)


def add_flags(parser: argparse.ArgumentParser, door: Door) -> None:
    """Gives a command's parser its options of the table, in their groups."""
    groups: dict[str, Any] = {"": parser}
    for flag in flags_of(door):
        group = flag.doors[door].group
        if group not in groups:
            groups[group] = parser.add_argument_group(group, SECTIONS[group])
        named = {"dest": flag.dest} if flag.dest else {}
        groups[group].add_argument(flag.name, *flag.also, **flag.about(door), **named)
