"""The campaign: stages in the profile's order, each resumed where the last run stopped."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import campaign


def test_stages_follow_the_profile() -> None:
    """CIFAR-100 first, ResNet-18 before 34 before 50, then the other sets, at last the performance benchmarks."""
    found = campaign.stages("gpu")
    assert found[0].startswith("cifar100-resnet18")
    order = [found.index(f"{d}-{m}") for d in ("cifar100", "cifar10") for m in ("resnet18", "resnet34", "resnet50")]
    assert order == sorted(order)
    assert found.index("cifar10-resnet50") < found.index("mnist-cnn") < found.index("fashion_mnist-cnn")
    assert found[-1] == campaign.PERFORMANCE


@pytest.mark.parametrize(("code", "seconds", "finished"), [("0", 30, True), ("2", 30, False), ("__import__('time').sleep(60)", 0.5, False)])
def test_a_stage_ends_or_is_interrupted(tmp_path: Path, code: str, seconds: float, finished: bool) -> None:
    """A child that fails, or is still running when its time ends, has not finished; the latter is interrupted."""
    words = [sys.executable, "-c", f"raise SystemExit({code})"]
    assert campaign.run_stage(words, tmp_path, tmp_path / "log.txt", seconds) is finished


def test_a_second_run_goes_on_where_the_first_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stages that are done are not run again; exit code 3 while some are left, 4 when one broke, 0 at the end."""
    ran: list[str] = []
    fate = {"digits-fc": "0", "digits-cnn": "2"}

    def command(stage: str, *_: object) -> list[str]:
        ran.append(stage)
        return [sys.executable, "-c", f"raise SystemExit({fate[stage]})"]

    monkeypatch.setattr(campaign, "command", command)
    words = ["--state", str(tmp_path), "--minutes", "1", "--stage", "digits-fc", "--stage", "digits-cnn"]
    assert campaign.main(words) == 4
    fate["digits-cnn"] = "0"
    assert campaign.main(words) == 0
    assert ran == ["digits-fc", "digits-cnn", "digits-cnn"]
    assert json.loads((tmp_path / "done.json").read_text()) == ["digits-fc", "digits-cnn"]
    assert campaign.main(["--state", str(tmp_path / "new"), "--minutes", "0.3", "--stage", "digits-fc"]) == 3
    capsys.readouterr()
    assert campaign.main(["--state", str(tmp_path), "--stage", "digits"]) == 2
    assert "'digits'" in capsys.readouterr().err


@pytest.mark.slow
def test_records_are_collected(tmp_path: Path) -> None:
    """A real stage: its records and tables lie in the state's folder."""
    words = ["--state", str(tmp_path), "--minutes", "5", "--profile", "smoke", "--stage", "digits-fc"]
    assert campaign.main([*words, "--", "--method", "noop,lookup", "--seeds", "0"]) == 0
    assert len((tmp_path / "records" / "records.jsonl").read_text().splitlines()) == 2
    assert (tmp_path / "records" / "table1.md").exists()
