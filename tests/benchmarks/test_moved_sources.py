"""The table of digests of moved sources is rewritten by a rule."""

from __future__ import annotations

from benchmarks.moved_sources import ROW, TABLE, joined

OLD, NEW, OTHER, LAST = (letter * 64 for letter in "abcd")


def test_an_old_digest_leads_to_todays() -> None:
    """Rows get today's digest, and what the other checkout has is added; comments stay."""
    table = f'# about\n\n{OLD} = "{NEW}"  # apricot\n'
    found = joined(table, {"apricot": NEW, "dl2": OTHER}, {"apricot": LAST, "dl2": OTHER}, ())
    assert found == f'# about\n\n{OLD} = "{LAST}"  # apricot\n{NEW} = "{LAST}"  # apricot\n'


def test_a_method_that_changed_keeps_its_rows() -> None:
    """Its records are of another code, and no row says otherwise."""
    table = f'# about\n\n{OLD} = "{NEW}"  # apricot\n'
    assert joined(table, {"apricot": OTHER}, {"apricot": LAST}, ("apricot",)) == table


def test_the_committed_table_is_of_that_form() -> None:
    """Every line is a comment, a row, or empty, and no digest leads to itself."""
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    rows = [ROW.fullmatch(line) for line in lines]
    assert lines
    assert all(row is not None and row[1] != row[2] for row in rows)
