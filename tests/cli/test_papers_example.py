"""The paper's two steps with its own words: a baseline is trained, and its example command repairs it.

Toy images, a narrow ResNet-34.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from airepair.cli.main import main
from airepair.records import read

EXAMPLE = (
    "--method apricot deeprepair dl2 --pretrained cifar10_resnet34_baseline.pt --dataset cifar10 "
    "--net_arch resnet --depth 34"
)


def stripes(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """32 x 32 colour images of noise with a brighter stripe, whose height is the class; some
    stripes are too faint to tell.
    """
    generator, y = np.random.default_rng(seed), np.arange(n) % 10
    x = generator.integers(0, 120, (n, 32, 32, 3))
    for k in range(n):
        x[k, 3 * y[k] : 3 * y[k] + 4] += generator.integers(5, 90)
    return x.astype(np.uint8), y


@pytest.mark.slow
def test_the_papers_example_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three methods, one folder: records, report, and each repaired model in the user's own format,
    which still loads weights-only.
    """
    (x, y), (x_test, y_test) = stripes(600, 0), stripes(100, 1)
    np.savez(tmp_path / "cifar10.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    monkeypatch.setenv("AIREPAIR_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    words = (
        "train --net_arch resnet --depth 34 --width 4 --dataset cifar10 --epochs 12 --lr 0.02 "
        "--batch_size 32 --out baseline"
    )
    assert main(words.split()) == 0
    (tmp_path / "baseline" / "model.pt").rename(tmp_path / "cifar10_resnet34_baseline.pt")
    assert main(["repair", *EXAMPLE.split()]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    records = read([run])[0]
    assert [(r.case.method, r.status) for r in records] == [
        ("apricot", "repaired"),
        ("deeprepair", "repaired"),
        ("dl2", "repaired"),
    ]
    assert all("not checked against the official images" in " ".join(r.notes) for r in records)
    assert records[0].subject["origin"]["file"] == "cifar10_resnet34_baseline.pt"
    before = torch.load("cifar10_resnet34_baseline.pt", weights_only=True)
    for record in records:
        after = torch.load(run / "models" / record.key / "cifar10_resnet34_baseline.pt", weights_only=True)
        assert after.keys() == before.keys()
        assert {k: v.shape for k, v in after["state_dict"].items()} == {
            k: v.shape for k, v in before["state_dict"].items()
        }
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("Apricot", "DeepRepair", "DL2", "Recommendation for"))
    assert "## Which method to use" in (run / "report.md").read_text()
