"""Where a run stands while it runs: the files of its processes, the lines, the moving view,
`airepair watch`.
"""

import io
import os
import pty
import re
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from airepair.cli.main import main
from airepair.suite.live.rows import grid_row, phase_left, rows, worker_row
from airepair.suite.live.screen import Above, Moving, Plain
from airepair.suite.live.state import FOLDER, GRID, Grid, Teller, Working, clear, grid_of, working, write

APRICOT = Working("gw0", "digits-cnn-apricot-s0", 100.0, "submodels", 110.0, 0, 5, 20, 0.3124, 120.0)
GRID_NOW = Grid(os.getpid(), 40.0, 2, 116, passed=12, failed=1, skipped=4, left=240.0, seen=100.0)


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_worker_says_cell_phase_step_loss_time_and_time_left() -> None:
    """Five steps of twenty in ten seconds, two seconds ago: 28 seconds are left."""
    assert (
        worker_row(APRICOT, 122.0, 100)
        == "gw0  digits-cnn-apricot-s0  submodels 5/20  loss 0.312  0:00:22  left 0:00:28"
    )


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """A line that wraps would move all that stands above it."""
    long = replace(
        APRICOT,
        cell="cifar100-resnet18w16_undertrained-deeprepair[no_style]-s0",
        phase="training the baseline, epoch 12 of 30",
    )
    assert all(len(line) <= width for line in rows(GRID_NOW, [long, APRICOT], 122.0, width))


def test_what_gives_way_first_is_the_start_of_the_phase() -> None:
    """Cell, epoch and the time that is left stay."""
    long = replace(APRICOT, phase="training the baseline, epoch 12 of 30", step=9_000, steps=30_000)
    assert (
        worker_row(long, 122.0, 80)
        == "gw0  digits-cnn-apricot-s0  ... 12 of 30 30 %  loss 0.312  0:00:22  left 0:00:21"
    )


def test_a_phase_that_is_not_measured_yet_has_no_time_left() -> None:
    """Neither has one without steps (an exam)."""
    assert phase_left(replace(APRICOT, first=5), 122.0) is None
    assert (
        worker_row(Working("main", "digits-fc-noop-s0", 1.0), 2.0, 80)
        == "main  digits-fc-noop-s0  starting  0:00:01"
    )


def test_epochs_of_one_training_share_their_pace() -> None:
    """ "epoch 2 of 30" goes on where the first was; another phase starts anew."""
    at = (
        Working("gw0", "c", 0.0)
        .at("training, epoch 1 of 30", 100, 3000, 1.0, 10.0)
        .at("training, epoch 2 of 30", 200, 3000, 0.5, 20.0)
    )
    assert (at.phase_since, at.first, phase_left(at, 20.0)) == (10.0, 100, 280.0)
    assert at.at("exams after", 0, 0, float("nan"), 30.0).phase_since == 30.0


def test_the_grid_says_done_failed_left_and_when() -> None:
    """With the number of cells of which nothing is known; at the end, what did not run."""
    text = grid_row(replace(GRID_NOW, unknown=3), 100.0)
    assert text.startswith(
        "grid  12 of 116 cells done, 1 failed, 4 skipped, 99 left; 0:01:00, left about 0:04:00 (until "
    )
    assert text.endswith(") and 3 of unknown length")
    assert "takes an unknown time" in grid_row(replace(GRID_NOW, left=None), 100.0)
    ended = "grid  12 of 116 cells done, 1 failed, 4 skipped, 99 not run; ended after 0:01:10"
    assert grid_row(replace(GRID_NOW, ended=110.0), 1e9) == ended


def test_the_grid_takes_no_less_than_a_worker_s_phase() -> None:
    """The estimate counts down between two reports, and does not know how long a subject trains."""
    assert "left about 0:01:30 (" in grid_row(GRID_NOW, 250.0)
    assert grid_row(GRID_NOW, 400.0).endswith("99 left; 0:06:00, longer than expected")
    assert "left about 0:00:28 (" in grid_row(replace(GRID_NOW, left=5.0), 122.0, workers=[APRICOT])


def test_a_worker_writes_at_most_twice_a_second_and_every_new_phase(tmp_path: Path) -> None:
    """It does so inside the timed call: a method that reports a thousand times a second must not
    pay for it.
    """
    clock = Clock()
    teller = Teller(tmp_path, "gw1", clock)
    teller.progress("nothing has begun", 0, 1, 0.0)
    assert working(tmp_path) == []
    teller.begin("digits-fc-noop-s0")
    for clock.now, step in ((0.1, 1), (0.2, 2), (0.55, 3), (0.7, 4)):
        teller.progress("steps", step, 9, 1.0)
    found = working(tmp_path)[0]
    assert (found.phase, found.step, found.seen) == ("steps", 4, 0.7)
    clock.now = 0.8
    teller.progress("another", 0, 0, float("nan"))
    assert (working(tmp_path)[0].phase, working(tmp_path)[0].loss) == ("another", None)
    teller.end()
    assert working(tmp_path) == []


def test_a_folder_that_refuses_files_costs_no_cell(tmp_path: Path) -> None:
    """The display is left out; a file of another program is not read as a worker's."""
    (tmp_path / "file").write_text("")
    teller = Teller(tmp_path / "file", "gw0")
    teller.begin("digits-fc-noop-s0")
    teller.progress("steps", 1, 2, 0.1)
    teller.end()
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "gw9.json").write_text('{"cell": 3')
    assert working(tmp_path) == []
    assert grid_of(tmp_path) is None
    clear(tmp_path)
    assert not (tmp_path / FOLDER).exists()


def written(out: Path, grid: Grid) -> None:
    """A run's state on disk."""
    write(out / FOLDER / GRID, grid)
    write(out / FOLDER / "gw0.json", APRICOT)


def all_of(terminal: int) -> str:
    """What the other end writes until it is closed."""
    text = b""
    with suppress(OSError):  # Linux's way to say that it is
        while part := os.read(terminal, 1 << 16):
            text += part
    return text.decode()


def test_pytests_own_lines_stand_above_the_moving_ones(tmp_path: Path) -> None:
    """Whole lines at once, an unfinished one when it is finished or the view ends; nothing is lost."""
    written(tmp_path, GRID_NOW)
    stream = io.StringIO()
    moving = Moving(tmp_path, stream)
    above = Above(moving, stream)
    moving.start()
    above.write("one li")
    assert "one li" not in stream.getvalue()
    above.write("ne\ntwo lines\nthe rest")
    moving.stop()
    text = stream.getvalue()
    assert text.index("one line\n") < text.index("two lines\n") < text.rindex("digits-cnn-apricot-s0")
    assert text.endswith("the rest")


def test_a_terminal_that_knows_no_size_has_lines_too(tmp_path: Path) -> None:
    """A pseudo-terminal's size is 0 x 0 until somebody sets it."""
    written(tmp_path, GRID_NOW)
    ours, theirs = pty.openpty()
    assert os.get_terminal_size(theirs).columns == 0
    with open(theirs, "w") as stream:
        moving = Moving(tmp_path, stream)
        moving.start()
        moving.stop()
    text = all_of(ours)
    os.close(ours)
    assert "digits-cnn-apricot-s0" in text


def test_a_log_gets_lines_at_a_pace(tmp_path: Path) -> None:
    """The grid's line first, then the workers'; a run that is shorter than the pace says nothing."""
    written(tmp_path, GRID_NOW)
    said: list[str] = []
    quick = Plain(tmp_path, said.append, pace=60.0)
    quick.start()
    quick.stop()
    assert said == []
    paced = Plain(tmp_path, said.append, pace=0.01)
    paced.start()
    while not said:
        paced.done.wait(0.01)
    paced.stop()
    assert re.match(
        r"airepair: grid  12 of 116 cells done, .*\n  gw0  digits-cnn-apricot-s0  submodels 5/20", said[0]
    )


def test_watch_shows_a_run_from_a_second_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Once where it stands; after its end what came of it, with 0."""
    written(tmp_path, replace(GRID_NOW, began=2e9))
    assert main(["watch", str(tmp_path), "--once"]) == 0
    assert "12 of 116 cells done" in (shown := capsys.readouterr().out)
    assert "digits-cnn-apricot-s0  submodels 5/20" in shown
    written(tmp_path, replace(GRID_NOW, ended=50.0))
    assert main(["watch", str(tmp_path)]) == 0
    assert "ended after 0:00:10" in capsys.readouterr().out


def test_watch_says_that_a_run_was_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A process number that is another's by now counts as gone: that process is younger than the run."""
    written(tmp_path, GRID_NOW)  # it began long before this process, whose number it has
    assert main(["watch", str(tmp_path)]) == 1
    assert "run again with --resume" in capsys.readouterr().err


def test_watch_refuses_a_folder_without_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line, with what would be accepted."""
    assert main(["watch", str(tmp_path)]) == 2
    assert "accepted: the --out of `airepair bench`" in capsys.readouterr().err


@pytest.mark.slow
def test_two_workers_move_at_the_bottom_of_a_terminal(tmp_path: Path) -> None:
    """A line for each worker and one for the grid while cells run; afterwards pytest's own lines
    and the verdict.
    """
    words = [
        "--dataset",
        "digits",
        "--model",
        "fc",
        "--method",
        "noop,apricot",
        "--set",
        "apricot.submodels=6",
        "--seeds",
        "0,1",
    ]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "benchmarks",
        "--native",
        "--no-ablations",
        "-n",
        "2",
        "--out",
        str(tmp_path / "out"),
        *words,
    ]
    child, terminal = pty.fork()
    if not child:
        os.chdir(Path(__file__).parents[3])
        os.environ |= {"AIREPAIR_CACHE": str(tmp_path / "cache"), "COLUMNS": "100", "TERM": "xterm"}
        os.execvp(command[0], command)
    text = all_of(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, text
    for row in (
        "gw0  digits-fc-",
        "gw1  digits-fc-",
        "training the baseline, epoch",
        "grid  0 of ",
        " left; 0:00:",
    ):
        assert row in text, row
    assert text.rindex("grid  ") < text.index("airepair: the verdict")
