"""The rule that decides what may be claimed, on simulated comparisons whose truth is known."""

from __future__ import annotations

from benchmarks.false_positives import WORLDS, main, rates


def test_equal_models_are_seldom_told_apart() -> None:
    """The larger p stays below the nominal rate, where a bootstrap of six seeds alone is far above it."""
    found = rates(WORLDS["equal"], 6, 200)
    assert found["larger"] <= 0.05
    assert found["seeds"] > 0.08
    assert found["larger"] <= min(found["both"], found["permutation"])


def test_a_real_difference_is_found_with_enough_seeds_and_never_with_five() -> None:
    """Two points: mostly at twelve seeds; at five the smallest p is .0625."""
    assert rates(WORLDS["two points better"], 12, 60)["larger"] > 0.6
    assert rates(WORLDS["two points better"], 5, 20)["larger"] == 0


def test_the_table_names_every_world_and_number_of_seeds(tmp_path, monkeypatch) -> None:
    """As it is committed, from the command line."""
    monkeypatch.setattr("benchmarks.false_positives.SEEDS", (3, 6))
    monkeypatch.setattr("sys.argv", ["false_positives", "--times", "4", "--out", str(tmp_path / "found.md")])
    main()
    lines = (tmp_path / "found.md").read_text().splitlines()
    assert len([x for x in lines if x.startswith(("| equal", "| two"))]) == 2 * len(WORLDS)
