"""AIREPAIR from Python: the page of docs is run, and what it promises holds."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import airepair
from airepair.errors import UsageError
from airepair.records import append
from airepair.testing import toy

ROOT = Path(__file__).parents[1]


def arrays(*, train: bool = False) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The toy data as a user would hold them."""
    data = toy.subject().dataset
    parts = ("train", "repair", "validation", "test") if train else ("repair", "validation", "test")
    return {name: (getattr(data, name).x, getattr(data, name).y) for name in parts}


def test_the_page_of_docs_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block of docs/python.md, one after the other, on the toy network and the committed records."""
    monkeypatch.chdir(ROOT)
    text = (ROOT / "docs" / "python.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, object] = {"module": nn.Sequential(nn.Flatten(), nn.Linear(64, 10))}
    exec(blocks[0], names)
    found = names["result"]
    assert isinstance(found, airepair.api.Repair)
    assert found.record.status == "repaired"
    names["module"] = toy.subject().module
    for part, (x, y) in arrays().items():
        names |= {f"x_{part}": x, f"y_{part}": y}
    for block in blocks[1:]:
        exec(block, names)
    assert names["result"].record.status == "repaired"  # type: ignore[attr-defined]
    assert names["sentence"] in airepair.verdict("reports/digits")
    assert names["found"].code == 0  # type: ignore[attr-defined]
    assert names["found"].findings  # type: ignore[attr-defined]


def test_a_module_in_memory_is_repaired_and_stays_as_it_is() -> None:
    """The result is another module with better answers on the failing inputs; the record is a whole one."""
    module = toy.subject().module
    weights = {k: v.clone() for k, v in module.state_dict().items()}
    found = airepair.repair(module, arrays(train=True), "finetune", {"epochs": 5, "lr": 0.05})
    assert found.record.status == "repaired"
    assert found.after["repair_rate"] > 0
    assert found.record.options["epochs"]["value"] == 5
    assert found.module is not module
    assert all(torch.equal(v, weights[k]) for k, v in module.state_dict().items())


def test_a_comparison_has_the_code_of_the_command(tmp_path: Path) -> None:
    """A seed that is gone is a regression, from records and from a file; no records at all cannot
    be read; a bad rule is one line.
    """
    records = list(airepair.load(ROOT / "reports" / "cifar"))
    fewer = [r for r in records if r.case.method != records[0].case.method]
    assert airepair.compare(records, fewer).code == 10
    append(tmp_path / "records.jsonl", records[0])
    assert airepair.compare(tmp_path, tmp_path / "records.jsonl").code == 0
    with pytest.raises(UsageError):
        airepair.compare(tmp_path / "none", records)
    with pytest.raises(UsageError, match="is not a rule of the gate"):
        airepair.compare(records, records, ["accuracy"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("test"), "accepted: repair, validation, test"),
        (lambda d: d.update(extra=d["test"]), "accepted: repair, validation, test"),
        (lambda d: d.update(test=(d["test"][0] * 255, d["test"][1])), "uint8 or float in [0, 1]"),
        (lambda d: d.update(test=(d["test"][0][:, 0], d["test"][1])), "N x C x H x W"),
        (lambda d: d.update(test=(d["test"][0], d["test"][1][:-1])), "N class ids"),
        (lambda d: d.update(test=(d["test"][0], d["test"][1] + 0.5)), "test: label 0.5; accepted: class ids"),
        (lambda d: d.update(test=(d["test"][0], d["test"][1] - 1)), "test: label -1; accepted: class ids"),
        (
            lambda d: d.update(test=(d["test"][0], d["test"][1] + 1)),
            "returns 4 logits per image, the labels go",
        ),
        (
            lambda d: d.update(test=(d["test"][0][..., 1:], d["test"][1])),
            "1 x 8 x 8, test 1 x 8 x 7; accepted",
        ),
        (lambda d: d.update(test=d["test"][0]), "test: ValueError: too many values"),
        (lambda d: d.update(test=(d["test"][0], ["north"])), "accepted: two arrays, x and y"),
    ],
)
def test_data_that_cannot_be_meant_are_refused_in_one_line(change: object, words: str) -> None:
    """With what is accepted."""
    data = arrays()
    change(data)  # type: ignore[operator]
    with pytest.raises(UsageError) as error:
        airepair.repair(toy.subject().module, data)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


class Answer(nn.Module):
    """The toy network, with another answer."""

    def __init__(self, change: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.net, self.change = toy.subject().module, change

    def forward(self, x: torch.Tensor) -> object:
        """N x 1 x 8 x 8 -> what `change` makes of N x 4."""
        return self.change(self.net(x))


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Answer(lambda x: {"logits": x}), "the module returns dict; accepted: a tensor of logits"),
        (Answer(lambda x: x / 0), "numbers that are not finite"),
        (Answer(lambda x: x[:, :1]), "returns 1 logits per image"),
        (toy.subject().module.half(), "the module raises on images of own, 1 x 8 x 8: RuntimeError"),
    ],
)
def test_a_module_that_does_not_answer_is_refused_in_one_line(module: nn.Module, words: str) -> None:
    """Before anything is repaired."""
    with pytest.raises(UsageError) as error:
        airepair.repair(module, arrays(), "noop")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", ["noop", "memit"])
def test_the_classes_are_the_modules_outputs(method: str) -> None:
    """Also if the images are of one class; labels may be whole numbers of any type."""
    data = {name: (x[y == 2], y[y == 2].float()) for name, (x, y) in arrays().items()}
    assert airepair.repair(toy.subject().module, data, method).record.status == "repaired"


def test_a_data_set_without_test_images_is_refused() -> None:
    """As arrays without them are."""
    data = toy.subject().dataset
    none = data.test.select(torch.zeros(0, dtype=torch.int64))
    with pytest.raises(UsageError, match="test of toy holds no images; accepted: one or more"):
        airepair.repair(toy.subject().module, replace(data, test=none), "noop")


def test_importing_airepair_loads_no_torch() -> None:
    """The plugin and the reports stay light."""
    code = (
        "import airepair, sys; assert 'torch' not in sys.modules; airepair.load; "
        "assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
