"""Table I: the layout, what stands in a cell, the paper's numbers, the claim lines, and every form
of it against a golden file.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from airepair.errors import UsageError
from airepair.records import Record
from airepair.report import paper as paper_table
from airepair.report import render, terminal, write_all
from airepair.report.cells import grid
from airepair.report.claims import device, runs
from airepair.report.facts import UNKNOWN_NOTE
from airepair.report.latex import escape as latex_escape
from airepair.report.markdown import escape as markdown_escape
from airepair.report.table import Table, fixed
from airepair.report.table1 import table1
from airepair.report.text import terminal as as_text
from tests.report_records import ODD, example, record

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
PAPER = ROOT / "reports" / "paper" / "table1.csv"


def made(records: list | None = None) -> Table:
    """Table I of the example beside the paper's numbers."""
    return table1(grid(example() if records is None else records), paper_table.read(PAPER))


def entry(table: Table, method: str, metric: str, column: int):
    """One entry by the labels of its row and the number of its column."""
    return next(r.entries[column] for r in table.rows if r.labels == (method, metric))


@pytest.mark.parametrize("form", ["txt", "md", "tex", "csv"])
def test_golden(form: str) -> None:
    """Table I of the example is byte for byte the golden file (AIREPAIR_GOLDEN=write writes it anew)."""
    path, text = GOLDEN / f"table1.{form}", render([made()], form)
    if os.environ.get("AIREPAIR_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_the_order_of_records_leaves_no_trace() -> None:
    """Cells that finish in another order (xdist) give the same bytes."""
    records = list({r.key: r for r in example()}.values())
    shuffled = random.Random(0).sample(records, len(records))
    for form in ("txt", "md", "tex", "csv"):
        assert render([made(shuffled)], form) == render([made(records)], form)


def test_cost_leaves_no_trace_in_table1() -> None:
    """Seconds and memory are no part of Table I, so that a serial run and a parallel one can be
    compared byte for byte.
    """
    slow = [dataclasses.replace(r, cost={"seconds": 99.0, "peak_bytes": 1}) for r in example()]
    assert render([made(slow)], "csv") == render([made()], "csv")


def test_columns_and_rows_stand_in_the_papers_order() -> None:
    """MNIST stands before digits; the baseline first, controls, then the paper's methods."""
    table = made()
    assert [h.title for h in table.headings] == [
        "CNN (n=1)",
        "CNN (n=3)",
        "FC (n=1)",
    ]  # the columns differ in n, so each says its own
    assert list(table.spans()) == [("MNIST", 1), ("digits", 2)]
    assert [r.labels[0] for r in table.rows][::2] == [
        "Baseline",
        "noop",
        "finetune",
        "random",
        "Apricot",
        "DeepRepair",
        "DL2",
    ]


def test_noop_is_exactly_zero() -> None:
    """noop shows +0.00, with one seed and with three; a tiny loss is no negative zero."""
    assert entry(made([record("digits-cnn-noop-s0")]), "noop", "Acc.", 0).text == "+0.00"
    assert entry(made(), "noop", "Acc.", 1).text == "+0.00 ± 0.00"
    assert fixed(-0.001, sign=True) == "+0.00"
    assert fixed(-0.001) == "0.00"


def test_gains_are_percentage_points_with_spread() -> None:
    """Gains .04, .05 and .06 print as +5.00 ± 1.00; a cell with fewer seeds says so and what the
    others came to.
    """
    assert entry(made(), "finetune", "Acc.", 1).text == "+5.00 ± 1.00"
    assert entry(made(), "DL2", "Const.", 1).text == "+12.00 (n=1, 1 crashed, 1 timeout)"


def test_a_cell_that_did_not_run_says_why() -> None:
    """Status words stand where numbers would; an absent metric is missing, an absent cell not run."""
    table = made()
    assert entry(table, "DeepRepair", "Acc.", 1).text == "unsupported"
    assert entry(table, "DeepRepair", "Acc.", 0).text == "not run"
    assert entry(table, "finetune", "Acc.", 2).text == "out of memory"
    assert entry(table, "finetune", "Const.", 0).text == "missing"
    assert any(c.startswith("Crashed: digits-cnn-dl2 s1 (the worker died (signal 9))") for c in table.claims)
    assert any(c.startswith("Missing: constraint (no groups) in mnist-cnn-finetune-s0") for c in table.claims)


def led(gains: dict[str, list[float]], models: tuple[str, ...] = ("fc",)) -> list[Record]:
    """Records of methods whose accuracy gains those points, one per seed."""
    return [
        record(f"digits-{model}-{method}-s{seed}", gains={"accuracy": gain})
        for model in models
        for method, points in gains.items()
        for seed, gain in enumerate(points)
    ]


def test_the_best_gain_of_a_column_is_bold_if_it_can_be_told_from_the_second() -> None:
    """Two points ahead at each of eight seeds: bold.

    At five seeds, or where the lead changes, nothing is, and no gain is no best.
    """
    steady, ahead = [0.05 + 0.001 * s for s in range(8)], [0.07 + 0.001 * s for s in range(8)]
    table = made(led({"finetune": steady, "dl2": ahead}))
    assert entry(table, "DL2", "Acc.", 0).best
    assert not entry(table, "finetune", "Acc.", 0).best
    assert "\x1b[1m+7.35" in as_text(table, bold=True)
    assert "*+7.35" in as_text(table)
    for gains in (
        {"finetune": steady[:5], "dl2": ahead[:5]},
        {"finetune": steady, "dl2": [g + (0.03 if s % 2 else -0.02) for s, g in enumerate(steady)]},
        {"finetune": [-g for g in ahead], "dl2": [-g for g in steady]},
        {"dl2": ahead},
    ):
        assert not any(e.best for row in made(led(gains)).rows for e in row.entries)


def test_a_method_that_lacks_a_seed_is_not_the_best() -> None:
    """It crashed where the repair is hard, so its mean is the largest: the bold gain is that of the best
    method with all seeds, if it is ahead of the other on the seeds that both have.
    """
    easy = [0.05 + 0.001 * s for s in range(8)] + [-0.1, -0.1]
    ahead = [g + 0.02 for g in easy]
    for lacking, bold in (([0.06] * 8, True), ([g + 0.03 for g in easy[:8]], False)):
        table = made(led({"finetune": easy, "dl2": ahead, "apricot": lacking}))
        assert not entry(table, "Apricot", "Acc.", 0).best
        assert entry(table, "DL2", "Acc.", 0).best is bold
        assert any("seeds of its column are missing: Apricot." in n for n in table.notes)
    whole = made(led({"finetune": easy, "dl2": ahead, "apricot": [0.06] * 10}))
    assert entry(whole, "Apricot", "Acc.", 0).text.startswith("+6.00")
    assert not any("missing" in n for n in whole.notes)


def test_a_column_without_a_complete_method_has_no_best() -> None:
    """One that ran at seeds 0 to 7 and one that ran at 2 to 9 are not compared."""
    early = led({"dl2": [0.07 + 0.001 * s for s in range(8)]})
    late = [record(f"digits-fc-finetune-s{s}", gains={"accuracy": 0.01 + 0.001 * s}) for s in range(2, 10)]
    assert not any(e.best for row in made(early + late).rows for e in row.entries)


def test_the_lead_is_corrected_for_the_columns() -> None:
    """The same lead in one column is told (p = 2 / 2^6), in two columns it is not (twice that is
    above .05).
    """
    gains = {"finetune": [0.05] * 6, "dl2": [0.07 + 0.001 * s for s in range(6)]}
    assert entry(made(led(gains)), "DL2", "Acc.", 0).best
    assert not any(e.best for row in made(led(gains, ("cnn", "fc"))).rows for e in row.entries)


def test_the_papers_number_stands_beside_the_same_cell_only() -> None:
    """mnist-cnn has the paper's; digits has none."""
    table = made()
    assert entry(table, "Baseline", "Acc.", 0).paper == "99.45"
    assert entry(table, "DL2", "Acc.", 0).paper == "+0.08"
    assert all(not e.paper for r in table.rows for e in r.entries[1:])


def test_the_impossible_cells_are_marked() -> None:
    """99.96 + 2.55 and 100 + 6.27 exceed 100 %: exactly these two are marked, and a note says so."""
    paper = paper_table.read(PAPER)
    marked = [key for key in paper.numbers if paper.impossible(tuple(key[0].split("-")), key[1], key[2])]  # type: ignore[arg-type]
    assert marked == [("mnist-cnn", "dl2", "constraint"), ("fashion_mnist-cnn", "dl2", "constraint")]
    assert entry(made(), "DL2", "Const.", 0).paper == "+2.55†"
    assert any("exceed 100 %" in n and "99.96 +2.55" in n for n in made().notes)


def test_a_constraint_gain_that_a_temperature_gives_is_flagged_where_it_is_read() -> None:
    """In Table I itself, with a note; accuracy and a gain that stays at the best temperature are not."""
    alone, true = (
        {"constraint": 0.2, "constraint_tempered": -0.01},
        {"constraint": 0.2, "constraint_tempered": 0.1},
    )
    table = table1(
        grid([record("digits-cnn-dl2-s0", gains=alone), record("digits-cnn-apricot-s0", gains=true)]),
        paper_table.Paper(),
    )
    assert [entry(table, m, "Const.", 0).text for m in ("DL2", "Apricot")] == ["+20.00‡", "+20.00"]
    assert "‡" not in entry(table, "DL2", "Acc.", 0).text
    assert any(n.startswith("‡") for n in table.notes)


def test_a_constraint_gain_without_its_tempered_score_is_flagged_as_unknown() -> None:
    """At one seed is enough; a loss needs no mark."""
    records = [
        record(f"digits-cnn-dl2-s{s}", gains={"constraint": 0.2, "constraint_tempered": 0.1}) for s in (0, 1)
    ]
    assert entry(made(records), "DL2", "Const.", 0).text == "+20.00 ± 0.00"
    after = {k: v for k, v in records[1].after.items() if k != "constraint_tempered"}
    unknown = [records[0], dataclasses.replace(records[1], after=after)]
    assert entry(made(unknown), "DL2", "Const.", 0).text == "+20.00 ± 0.00‡?"
    assert [n for n in made(unknown).notes if n.startswith("‡")] == [UNKNOWN_NOTE]
    lost = [dataclasses.replace(r, after=r.after | {"constraint": 0.1}) for r in unknown]
    assert "‡" not in entry(made(lost), "DL2", "Const.", 0).text


def test_the_claim_line_is_complete() -> None:
    """n, seeds, spread, device, versions, commit, profile, test images; then notes and duplicates."""
    text = "\n".join(made().claims)
    for part in (
        "n = 1 to 3 seeds",
        "(0 to 2)",
        "standard deviation",
        "CPU (Test 1 GHz)",
        "torch 2.13.0",
        "commit 0123456789",
        "profile smoke",
        "mnist 497",
    ):
        assert part in made().claims[0]
    assert "Note (mnist-cnn): 97 of 60,000 images not official." in text
    assert "a method's own note" not in text
    assert "Recorded more than once, the first finished record counts: mnist-cnn-dl2-s0." in text


def test_a_dirty_checkout_and_two_devices_are_named() -> None:
    """What differs between records is all named."""
    first = record("digits-cnn-noop-s0")
    other = {**first.provenance, "device": "GPU", "dirty": True}
    claim = made([first, record("digits-cnn-noop-s1", provenance=other)]).claims[0]
    assert "device CPU (Test 1 GHz) / GPU" in claim
    assert "commit 0123456789 / 0123456789 (dirty)" in claim


def test_one_model_for_all_seeds_means_repair_seeds_only() -> None:
    """The claim says so when every seed repaired the same weights, and not when the baselines differ."""
    same = [record(f"digits-cnn-noop-s{s}", subject={"weights": "w"}) for s in (0, 1)]
    assert any("repair seeds only" in c for c in made(same).claims)
    assert not any(
        "repair seeds only" in c for c in made([record(f"digits-cnn-noop-s{s}") for s in (0, 1)]).claims
    )


def test_a_table_never_mixes_benchmark_versions() -> None:
    """Records of version 1 (which do not name it) and 2: the newer ones stand, the others are
    counted in a line; alone, they stand.
    """
    new = record("digits-cnn-dl2-s0")
    old = [
        dataclasses.replace(record(f"digits-cnn-{m}-s0"), provenance={"commit": "1"})
        for m in ("dl2", "apricot")
    ]
    table = made([new, *old])
    assert [r.labels[0] for r in table.rows] == ["Baseline", "Baseline", "DL2", "DL2"]
    assert "benchmark version 2" in table.claims[0]
    assert (
        "Left out: 2 records of an earlier benchmark version, whose numbers do not compare." in table.claims
    )
    assert "benchmark version 1" in made(old).claims[0]


def test_the_claim_says_what_the_seeds_range_over() -> None:
    """Digits has no official test set: over splits of its images."""
    assert (
        "test images: digits 497 (over splits of these 1,797 images)"
        in made([record("digits-cnn-noop-s0")]).claims[0]
    )


def test_one_file_on_several_splits_is_not_repair_seeds_only() -> None:
    """The same weights, but each seed divides the unseen images anew: the note says both."""
    records = [
        record(f"digits-cnn-noop-s{s}", subject={"weights": "w", "data": {"repair": f"r{s}"}}) for s in (0, 1)
    ]
    assert any(
        "the same weights at every seed, which sets the repair's own randomness and the split" in c
        for c in made(records).claims
    )
    assert not any("repair seeds only" in c for c in made(records).claims)


def test_the_last_line_says_so_when_nothing_ran() -> None:
    """No record at all, or none repaired: the last line says it."""
    for records in ([], [record("digits-cnn-dl2-s0", "skipped", reason="no data")]):
        assert (
            terminal(records, PAPER).strip().splitlines()[-1]
            == "Nothing ran: no cell of this table was repaired."
        )


def test_odd_characters_are_escaped() -> None:
    """A reason with the special characters of LaTeX and Markdown and an escape sequence breaks no table."""
    tex, md = latex_escape(ODD), markdown_escape(ODD)
    assert r"\textbar{} 100 \% of a\_b \& \textless{}b\textgreater{}" in tex
    assert "\n" not in tex + md
    assert "\x1b" not in tex + md
    assert r"\| 100 % of a\_b &amp; &lt;b&gt;" in md
    assert tex.endswith(r"$\rightarrow$ ü red")


def test_the_csv_is_tidy() -> None:
    """One row a column x row x metric; numbers parse; absent ones are empty."""
    rows = list(csv.DictReader(io.StringIO(render([made()], "csv"))))
    assert len(rows) == 3 * 7 * 2
    found = next(
        r
        for r in rows
        if (r["dataset"], r["model"], r["row"], r["metric"]) == ("digits", "cnn", "finetune", "accuracy")
    )
    assert (float(found["mean"]), float(found["sd"]), int(found["n"])) == (5.0, 1.0, 3)
    assert next(r for r in rows if r["status"] == "unsupported")["mean"] == ""


def test_a_narrow_page_splits_the_columns() -> None:
    """No line of the grid is wider than the page; every column is still there."""
    text = as_text(made(), width=70)
    assert max(map(len, text.splitlines())) <= 70
    assert text.count("Baseline") == 3


def test_write_all_is_atomic_and_complete(tmp_path: Path) -> None:
    """Every file is there with a line, none is half written or left over; a second call gives the
    same bytes.
    """
    paths = write_all(example(), tmp_path, PAPER)
    assert {p.name for p in paths} >= {f"table1.{form}" for form in ("txt", "md", "tex", "csv")}
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in paths)
    first = {p: p.read_bytes() for p in paths}
    assert {p: p.read_bytes() for p in write_all(example(), tmp_path, PAPER)} == first


def test_a_bad_paper_file_is_a_usage_error(tmp_path: Path) -> None:
    """The error names the file and what is accepted."""
    path = tmp_path / "t.csv"
    path.write_text("row,metric,a-b\nbaseline,accuracy,much\n")
    with pytest.raises(UsageError, match=r"t\.csv.*accepted"):
        paper_table.read(path)
    assert not paper_table.read(None).numbers


def test_reports_load_without_torch() -> None:
    """Rendering from records alone imports no torch."""
    code = (
        "import sys, airepair.report; from airepair.report import terminal; terminal([]); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_column_in_another_arithmetic_says_so_in_its_heading() -> None:
    """bf16 on a CPU and a ResNet's width there are read before the numbers; other columns say nothing."""
    plain, made_in_bf16 = record("cifar10-resnet18-noop-s0"), record("cifar10-resnet18w16-noop-s0")
    made_in_bf16 = dataclasses.replace(
        made_in_bf16, provenance={**made_in_bf16.provenance, "arithmetic": "bf16", "device_kind": "cpu"}
    )
    plain = dataclasses.replace(plain, provenance={**plain.provenance, "device_kind": "cuda"})
    headings = [h.title for h in made([plain, made_in_bf16]).headings]
    assert headings == ["ResNet18", "resnet18w16 (CPU, bf16, quarter width)"]
    narrow = dataclasses.replace(made_in_bf16, provenance={**made_in_bf16.provenance, "arithmetic": "native"})
    headings = [h.title for h in made([plain, narrow]).headings]
    assert headings == ["ResNet18", "resnet18w16 (CPU, float32, quarter width)"]
    wide = dataclasses.replace(plain, provenance={**plain.provenance, "device_kind": "cpu"})
    assert [h.title for h in made([wide]).headings] == ["ResNet18 (CPU, float32, full width)"]


def test_seeds_in_a_row_are_one_range() -> None:
    """Twenty seeds are no twenty numbers; gaps stay visible."""
    assert [runs(ns) for ns in ([], [3], [0, 1], [0, 1, 2], [0, 2, 3, 4, 9])] == [
        "",
        "3",
        "0, 1",
        "0 to 2",
        "0, 2 to 4, 9",
    ]


def test_the_claim_tells_processors_of_one_name_apart() -> None:
    """Instruction sets change the last bits of native arithmetic, and none of the portable one's."""
    facts = {"device": "CPU (Test)", "cpu_capability": "AVX2"}
    assert device({**facts, "arithmetic": "native"}) == "CPU (Test) with AVX2"
    assert device({**facts, "arithmetic": "portable"}) == "CPU (Test)"
    assert device({"device": "GPU"}) == "GPU"
    native = record("mnist-cnn-noop-s0")
    native = dataclasses.replace(native, provenance={**native.provenance, **facts, "arithmetic": "native"})
    assert "CPU (Test) with AVX2" in render([made([native])], "csv")
