"""Faults with a known cause: what each does, which test inputs it spoils, its clean twin, and the
scores of a repair.
"""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from airepair import data
from airepair.case import Case
from airepair.corruptions import Corruption
from airepair.errors import UsageError
from airepair.evaluation.exam import Exam, sit
from airepair.evaluation.exams import Exams, FaultExams, draw_pairs, sit_fault
from airepair.faults import FAULTS, of_case, parse
from airepair.faults.backdoor import Backdoor, patched
from airepair.faults.bitflips import Bitflips
from airepair.faults.damaged import Damaged
from airepair.faults.fault import Fault
from airepair.faults.imbalanced import Imbalanced
from airepair.faults.mislabelled import Mislabelled
from airepair.faults.missing import Missing
from airepair.host.tensor_cache import digest_of_module as digest
from airepair.methods import build
from airepair.metrics import Missing as Absent
from airepair.metrics.attack_success import attack_success
from airepair.metrics.localisation import localisation_precision, localisation_recall
from airepair.metrics.recovery import collateral, recovery
from airepair.models import build as network
from airepair.report.cells import faulty as faulty_columns
from airepair.report.cells import grid
from airepair.runner.events import Events
from airepair.runner.repair import task_of
from airepair.subjects.baseline import key_of
from airepair.subjects.faulty import faulty, images_of
from airepair.subjects.grid import load, spoil
from airepair.subjects.recipes import Training, training_of
from airepair.testing.cells import prepare, run
from airepair.training.resumable import Plan, train
from airepair.types import Dataset, Recipe, Split, Subject

SHORT = Training(Recipe(epochs=6, lr=0.05), "test")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    """The clean digits."""
    return data.load("digits")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of baselines for the module: twins are shared."""
    return tmp_path_factory.mktemp("cache")


def subject(fault: str, digits: Dataset, cache: Path, dataset: str = "digits") -> Subject:
    """A briefly trained subject with that fault."""
    model = f"fc+{fault}" if fault else "fc"
    found = of_case(dataset, model)
    assert found is not None
    return faulty((dataset, model), digits, SHORT, found, 0, cache)


def linear() -> nn.Module:
    """Two linear layers, seeded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


# --- what each fault does ---


def test_imbalanced_cuts_one_class_to_a_tenth(digits: Dataset) -> None:
    """A tenth of class 8 is left, chosen by the fault's seed; the others stay as they are and in
    order; it spoils the test inputs of class 8.
    """
    fault = Imbalanced()
    train = fault.train(digits.train, 10)
    n = int((digits.train.y == 8).sum())
    assert int((train.y == 8).sum()) == round(n / 10)
    others = digits.train.y != 8
    assert torch.equal(train.x[train.y != 8], digits.train.x[others])
    assert torch.equal(fault.spoils(digits), digits.test.y == 8)
    assert torch.equal(train.y, Imbalanced().train(digits.train, 10).y)


def test_missing_takes_the_end_of_a_class_along_its_first_direction(digits: Dataset) -> None:
    """Half of class 8 goes; what is left lies on one side of a point on the principal direction,
    and the spoiled test inputs on the other.
    """
    fault = Missing()
    train = fault.train(digits.train, 10)
    of_class = digits.train.select((digits.train.y == 8).nonzero()[:, 0]).x.flatten(1).double()
    kept = train.select((train.y == 8).nonzero()[:, 0]).x.flatten(1).double()
    assert len(kept) == (len(of_class) + 1) // 2
    centred = of_class - of_class.mean(0)
    direction = torch.linalg.svd(centred, full_matrices=False).Vh[0]
    direction = direction * direction[direction.abs().argmax()].sign()
    inside, spoiled = (kept - of_class.mean(0)) @ direction, fault.spoils(digits)
    chosen = digits.test.select(spoiled.nonzero()[:, 0])
    assert set(chosen.y.tolist()) == {8}
    assert 0 < len(chosen) < int((digits.test.y == 8).sum())
    beyond = (chosen.x.flatten(1).double() - of_class.mean(0)) @ direction
    assert float(beyond.min()) > float(inside.max())


def test_mislabelled_swaps_a_share_of_one_pair(digits: Dataset) -> None:
    """Only labels of 3 and 8 change, into each other, about 40 % of them; it spoils the test inputs
    of both.
    """
    fault = Mislabelled()
    train = fault.train(digits.train, 10)
    changed = train.y != digits.train.y
    assert set(digits.train.y[changed].tolist()) == {3, 8}
    assert bool((train.y[changed] + digits.train.y[changed] == 11).all())
    assert 0.3 < float(changed.sum()) / float(((digits.train.y == 3) | (digits.train.y == 8)).sum()) < 0.5
    assert torch.equal(fault.spoils(digits), (digits.test.y == 3) | (digits.test.y == 8))


def test_backdoor_poisons_a_share_and_spoils_triggered_copies(digits: Dataset) -> None:
    """A tenth of all training images carry the patch and the target's label; the triggered copies
    are of other classes, with right labels.
    """
    fault = Backdoor()
    before, train = digits.train.x.clone(), fault.train(digits.train, 10)
    changed = train.y != digits.train.y
    assert int(changed.sum()) == 60
    assert bool((train.y[changed] == 0).all())
    assert torch.equal(train.x[changed], patched(digits.train.x[changed]))
    assert torch.equal(train.x[~changed], digits.train.x[~changed])
    copies = fault.triggered(digits.test)
    assert 0 not in copies.y.tolist()
    assert bool((copies.x[:, :, -2:, -2:] == 1).all())
    assert torch.equal(digits.train.x, before)
    grey = patched(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    assert int((grey == 255).sum()) == 3 * 4 * 4


@pytest.mark.parametrize("fault", ["mislabelled", "imbalanced", "backdoor"])
def test_what_a_fault_does_to_the_training_follows_the_seed(fault: str, digits: Dataset) -> None:
    """Of the same training data: the same draw at the same seed, another one at another."""
    kind = FAULTS.get(fault)
    first, again, other = (kind(seed=seed).train(digits.train, 10).digest() for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("fault", ["damaged", "bitflips"])
def test_which_weights_are_struck_follows_the_seed(fault: str) -> None:
    """The masks of two seeds differ, those of one seed do not."""
    kind = FAULTS.get(fault)
    first, again, other = (next(iter(kind(seed=seed).damage(linear()).values())) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_what_an_environment_draws_follows_the_seed(digits: Dataset, cache: Path) -> None:
    """At two cell seeds the same images are in other fog."""
    found = of_case("digits+fog3", "fc")
    assert found is not None
    first, other = (
        faulty(("digits+fog3", "fc"), digits, SHORT, found, seed, cache).dataset.test.x for seed in (0, 1)
    )
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    "fault", [Damaged(severity=0.25), Bitflips(severity=0.25)], ids=["damaged", "bitflips"]
)
def test_damage_is_where_it_says(fault: Damaged | Bitflips) -> None:
    """A quarter of one layer's weights differ, exactly those of the mask; everything else is the
    same, and the outputs stay finite.
    """
    module, before = linear(), linear().state_dict()
    masks = fault.damage(module)
    after = module.state_dict()
    assert list(masks) == ["1.weight"]
    assert torch.equal(masks["1.weight"], before["1.weight"] != after["1.weight"])
    assert int(masks["1.weight"].sum()) == pytest.approx(0.25 * 64 * 32, abs=2)
    assert all(torch.equal(before[k], after[k]) for k in before if k != "1.weight")
    assert bool(torch.isfinite(module(torch.rand(5, 1, 8, 8))).all())


def test_a_flipped_bit_negates_or_scales_by_a_power_of_two() -> None:
    """One bit a weight: the ratio is -1 or 2 ** (1, 2, 4 or 8), up or down."""
    module, before = linear(), linear().state_dict()["1.weight"]
    mask = Bitflips(severity=0.5).damage(module)["1.weight"]
    ratio = module.state_dict()["1.weight"][mask] / before[mask]
    accepted = torch.tensor([-1.0, *(2.0 ** (s * e) for s in (1, -1) for e in (1, 2, 4, 8))])
    assert set(ratio.tolist()) == set(accepted.tolist())


def test_undertrained_leaves_out_a_share_of_the_epochs() -> None:
    """.95 of sixty epochs leaves three; never fewer than one."""
    fault = parse("undertrained")
    assert fault.recipe(Recipe(epochs=60)).epochs == 3
    assert fault.recipe(Recipe(epochs=4)).epochs == 1


# --- names, bad input ---


def test_names_carry_fault_and_severity() -> None:
    """`imbalanced0.05`, `rotated5` and `digits+fog3` are understood; every registered fault is a
    Fault of its registered name.
    """
    assert parse("imbalanced0.05") == Imbalanced(severity=0.05)
    assert of_case("digits", "fc") is None
    environment = of_case("digits+fog3", "fc")
    assert environment is not None
    assert environment.environment == Corruption("fog", 3)
    assert parse("rotated5").environment == Corruption("rotate", 5)
    assert all(isinstance(parse(name), Fault) and parse(name).name == name for name in FAULTS.builtin)
    assert str(Case.parse("digits+fog3-fc+imbalanced0.05-noop-s1").dataset) == "digits+fog3"


@pytest.mark.parametrize(
    ("dataset", "model", "message"),
    [
        ("digits", "fc+imbalancd", "did you mean 'imbalanced'"),
        ("digits", "fc+missing2", r"missing.severity=2.0 is out of range; accepted: 0.01..0.99"),
        ("digits", "fc+rotated2.5", "accepted type: int"),
        ("digits", "fc+backdoor+damaged", "more than one fault"),
        ("digits+fog9", "fc", "severity from 1 to 5"),
        ("digits+fog3", "fc+damaged", "an environment and a fault"),
    ],
)
def test_what_cannot_be_meant_is_refused(dataset: str, model: str, message: str) -> None:
    """One line that shows the value and what is accepted."""
    with pytest.raises(UsageError, match=message):
        of_case(dataset, model)


def test_a_fault_that_spoils_nothing_is_refused(digits: Dataset, cache: Path) -> None:
    """No test input of the class, a class that is not there, a severity that changes nothing in the
    training.
    """
    without = dataclasses.replace(digits, test=digits.test.select((digits.test.y != 8).nonzero()[:, 0]))
    with pytest.raises(
        UsageError, match=r"fault imbalanced at severity 0.1 spoils none of the \d+ test inputs of digits"
    ):
        subject("imbalanced", without, cache)
    with pytest.raises(UsageError, match=r"about class 8; the data set has classes 0\.\.3"):
        Imbalanced().train(digits.train, 4)
    with pytest.raises(UsageError, match=r"backdoor at severity 0\.0001 changes nothing"):
        subject("backdoor0.0001", digits, cache)
    with pytest.raises(UsageError, match="not a fault of the training"):
        training_of("digits", "fc+damaged")


# --- subjects and their twins ---


def test_a_fault_and_its_twin_share_recipe_and_seed(digits: Dataset, cache: Path) -> None:
    """The twin is trained on the clean data once for all faults; weights and environment faults
    start from its weights; the rest differs.
    """
    cut, noisy, damaged, foggy = (
        subject(f, digits, cache) for f in ("imbalanced", "mislabelled", "damaged1.0", "environment")
    )
    twins = [s.fault.facts["twin"]["weights"] for s in (cut, noisy, damaged) if s.fault]
    assert len(set(twins)) == 1
    clean = next(cache.glob("digits-fc+clean-s0-*.safetensors"))
    assert len(list(cache.glob("digits-fc+clean-s0-*.safetensors"))) == 1
    assert clean.exists()
    assert digest(foggy.module) == twins[0] != digest(damaged.module)
    assert digest(cut.module) not in twins
    assert foggy.fault is not None
    assert foggy.fault.facts["twin"]["images"] == 2 * images_of(SHORT.recipe, 600) == 7200
    assert foggy.fault.facts["twin"]["weights"] not in twins
    assert cut.dataset.digests["train"] != digits.digests["train"] == damaged.dataset.digests["train"]


def test_a_healthy_subject_is_the_clean_twin_of_the_faulty_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`fc+clean` is trained on right labels, once for itself and as a twin; it has no fault to
    recover from, and stands in Table I.
    """
    monkeypatch.setattr(
        "airepair.subjects.grid.training_of",
        lambda d, m: dataclasses.replace(training_of(d, m), recipe=SHORT.recipe),
    )
    cut, healthy = (
        load("digits", m, 0, profile="smoke", device=torch.device("cpu"), cache=tmp_path)
        for m in ("fc+imbalanced", "fc+clean")
    )
    assert cut.fault is not None
    assert digest(healthy.module) == cut.fault.facts["twin"]["weights"]
    assert len(list(tmp_path.glob("digits-fc+clean-s0-*.safetensors"))) == 1
    assert healthy.fault is None
    assert healthy.dataset.digests == data.load("digits", seed=0).digests
    record = run(prepare(Case("digits", "fc+clean", "noop", 0), healthy, build("noop", {}))).record
    assert "no fault" in record.missing["recovery"]
    assert faulty_columns(grid([record])) == set()
    with pytest.raises(UsageError, match="has an environment and a fault"):
        of_case("digits+fog3", "fc+clean")


def test_an_environment_is_met_in_repair_validation_and_test(digits: Dataset, cache: Path) -> None:
    """Those three are corrupted, each by numbers of its own, train is clean; the task knows the
    corruption, and clean accuracy is recorded.
    """
    by_data, by_model = subject("", digits, cache, "digits+fog3"), subject("environment", digits, cache)
    assert by_data.name == "digits+fog3-fc"
    assert by_data.environment == Corruption("fog", 3)
    assert by_data.dataset.digests == by_model.dataset.digests
    assert torch.equal(by_data.dataset.train.x, digits.train.x)
    assert not torch.equal(by_data.dataset.validation.x, digits.validation.x)
    style = prepare(Case("digits+fog3", "fc", "deeprepair_style", 0), by_data, build("deeprepair_style", {}))
    assert task_of(style, Events(style.limit, lambda *_: None)).environment == Corruption("fog", 3)
    ready = prepare(Case("digits+fog3", "fc", "noop", 0), by_data, build("noop", {}))
    assert task_of(ready, Events(ready.limit, lambda *_: None)).environment is None
    record = run(ready).record
    assert record.before["accuracy"] < record.before["clean_accuracy"] == record.after["clean_accuracy"]
    assert record.before["spoiled_accuracy"] == record.before["accuracy"]
    assert record.after["recovery"] == record.after["collateral"] == 0.0
    assert record.subject["fault"]["corruption"] == "fog"


def test_an_environment_that_changes_no_image_is_refused(digits: Dataset, cache: Path) -> None:
    """8 pixels enlarged by 6 % are 8 pixels: zoom_blur at severity 1 leaves digits as they are; at
    severity 2 it does not.
    """
    with pytest.raises(UsageError, match=r"zoom_blur1 changes no image of digits .8 x 8 pixels.*accepted"):
        subject("", digits, cache, "digits+zoom_blur1")
    assert subject("", digits, cache, "digits+zoom_blur2").environment == Corruption("zoom_blur", 2)


def test_triggered_inputs_are_among_the_failing_with_right_labels(digits: Dataset, cache: Path) -> None:
    """Repair and validation hold triggered copies, test does not; what fails among them reaches the
    method; the attack is measured.
    """
    found = subject("backdoor", digits, cache)
    assert len(found.dataset.repair) == 400 + int((digits.repair.y != 0).sum())
    assert torch.equal(found.dataset.test.x, digits.test.x)
    ready = prepare(Case("digits", "fc+backdoor", "noop", 0), found, build("noop", {}))
    patch = ready.failing.x[:, :, -2:, -2:].flatten(1).min(1).values == 1
    assert int(patch.sum()) > 100
    assert 0 not in ready.failing.y[patch].tolist()
    assert ready.scores["attack_success"] > 0.5
    fixed = run(
        prepare(
            Case("digits", "fc+backdoor", "finetune", 0), found, build("finetune", {"epochs": 10, "lr": 0.05})
        )
    ).record
    assert fixed.after["attack_success"] < ready.scores["attack_success"]
    assert fixed.after["recovery"] > 0
    assert fixed.subject["fault"]["name"] == "backdoor"


def test_damage_spoils_what_it_turned_wrong(digits: Dataset, cache: Path) -> None:
    """The spoiled inputs are right in the twin and wrong in the subject; fine-tuning changes every
    weight, so recall is 1 and precision low.
    """
    found = subject("damaged1.0", digits, cache)
    assert found.fault is not None
    assert found.fault.facts["before"]["spoiled"] == 0.0
    assert found.fault.facts["twin"]["spoiled"] == found.fault.twin == 1.0
    assert found.fault.facts["damaged_weights"] == 64 * 32
    record = run(
        prepare(
            Case("digits", "fc+damaged1.0", "finetune", 0),
            found,
            build("finetune", {"epochs": 3, "lr": 0.02}),
        )
    ).record
    assert record.after["localisation_recall"] == 1.0
    assert 0.1 < record.after["localisation_precision"] < 0.5
    assert (
        "no weight was changed"
        in run(prepare(Case("digits", "fc", "noop", 0), found, build("noop", {}))).record.missing[
            "localisation_precision"
        ]
    )


def test_test_inputs_of_a_fault_never_reach_the_method(digits: Dataset, cache: Path) -> None:
    """With another test split, another mask and another twin the same weights come out: selection
    sees none of it.
    """
    found = subject("imbalanced", digits, cache)
    assert found.fault is not None
    test = Split(1 - digits.test.x, digits.test.y.flip(0))
    other = dataclasses.replace(found.fault, spoiled=digits.test.y == 1, others=digits.test.y != 1, twin=0.5)
    poisoned = dataclasses.replace(found, dataset=dataclasses.replace(found.dataset, test=test), fault=other)
    case, method = (
        Case("digits", "fc+imbalanced", "finetune", 0),
        build("finetune", {"epochs": 2, "lr": 0.05}),
    )
    records = [run(prepare(case, s, method)).record for s in (found, poisoned)]
    assert records[0].subject["repaired_weights"] == records[1].subject["repaired_weights"]
    assert records[0].before["spoiled_accuracy"] != records[1].before["spoiled_accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "model", "repairs"),
    [
        ("digits", "fc+imbalanced", False),
        ("digits", "fc+missing", False),
        ("digits", "fc+backdoor", False),
        ("digits+fog3", "fc", False),
        ("digits", "fc+undertrained", True),
    ],
)
def test_more_of_the_same_training_repairs_the_undertrained_alone(
    dataset: str, model: str, repairs: bool, cache: Path
) -> None:
    """The grid's subjects with a fault have learned their training data by heart; the recipe once
    more on the same data leaves the fault.
    """
    found = load(dataset, model, 20, profile="smoke", device=torch.device("cpu"), cache=cache)
    again = copy.deepcopy(found.module)
    train(again, found.dataset.train, None, Plan(found.recipe, 1020))
    before, after = (sit_fault(found, m, sit(m, found.dataset.test)) for m in (found.module, again.eval()))
    assert before is not None
    assert after is not None
    recovered = (after.spoiled.accuracy - before.spoiled.accuracy) / (before.twin - before.spoiled.accuracy)
    assert (sit(found.module, found.dataset.train).accuracy > 0.995) != repairs
    assert (recovered > 0.5) if repairs else (recovered < 0.3)


# --- the scores, on constructed cases ---


def answered(predictions: list[int], labels: list[int]) -> Exam:
    """An exam with these answers."""
    return Exam(nn.functional.one_hot(torch.tensor(predictions), 3).float(), torch.tensor(labels))


def exams(digits: Dataset, spoiled: Exam, others: Exam, twin: float, target: int | None = None) -> Exams:
    """Exams whose fault part is given."""
    return Exams(
        others,
        others,
        others,
        (),
        None,
        draw_pairs(digits.test, digits.robustness, 4),
        fault=FaultExams(spoiled, others, twin, target, None, None),
    )


def test_recovery_is_the_share_of_the_way_to_the_twin(digits: Dataset) -> None:
    """.25 before, .5 after, twin 1: a third of the way; collateral is what the others lost; the
    target's share is the attack's success.
    """
    right = answered([0, 1, 2, 0], [0, 1, 2, 0])
    before = exams(digits, answered([0, 0, 0, 0], [0, 1, 2, 1]), right, 1.0, 0)
    after = exams(digits, answered([0, 1, 0, 2], [0, 1, 2, 1]), answered([0, 1, 2, 1], [0, 1, 2, 0]), 1.0, 0)
    assert recovery(before, after) == pytest.approx(1 / 3)
    assert collateral(before, after) == pytest.approx(0.25)
    assert attack_success(before, before) == 1.0
    assert attack_success(before, after) == 0.5


def test_what_has_no_meaning_is_missing(digits: Dataset) -> None:
    """No fault, a twin that is no better, nothing but spoiled inputs: a reason, no number."""
    right = answered([0, 1], [0, 1])
    plain = dataclasses.replace(exams(digits, right, right, 1.0), fault=None)
    level = exams(digits, right, right.select(torch.zeros(2, dtype=torch.bool)), 1.0)
    assert isinstance(recovery(plain, plain), Absent)
    found = recovery(level, level)
    assert isinstance(found, Absent)
    assert "no better on the spoiled inputs: 1.0000 against 1.0000" in found.reason
    assert collateral(level, level) == Absent("the fault spoils every test input")
    assert isinstance(attack_success(level, level), Absent)


def test_localisation_counts_changed_and_damaged_weights(digits: Dataset, cache: Path) -> None:
    """Four weights damaged, three changed, two of them damaged: precision 2/3, recall 1/2; other
    weights, no score.
    """
    module = linear()
    mask = torch.zeros(32, 64, dtype=torch.bool)
    mask[0, :4] = True
    found = subject("damaged1.0", digits, cache)
    assert found.fault is not None
    made = dataclasses.replace(
        found, module=module, fault=dataclasses.replace(found.fault, damaged={"1.weight": mask})
    )
    repaired = copy.deepcopy(module)
    with torch.no_grad():
        repaired[1].weight[0, 2:5] += 1  # type: ignore[index,union-attr,operator]
    test = Exam(torch.zeros(497, 10), digits.test.y)
    scores = dataclasses.replace(exams(digits, test, test, 1.0), fault=sit_fault(made, repaired, test))
    assert localisation_precision(scores, scores) == pytest.approx(2 / 3)
    assert localisation_recall(scores, scores) == pytest.approx(1 / 2)
    wider = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    scores = dataclasses.replace(scores, fault=sit_fault(made, wider, test))
    assert isinstance(localisation_precision(scores, scores), Absent)


# --- what stays as it was ---


@pytest.mark.parametrize("model", ["fc", "cnn"])
def test_the_default_digits_subjects_keep_their_key(model: str, digits: Dataset) -> None:
    """Their fault is the label noise at its stated severity: the training data of benchmark version
    2, the same words in the key.
    """
    training = training_of("digits", model)
    key = key_of(network(model, "digits", 10, (1, 8, 8)), spoil(digits, training, 0), training, 0)
    assert key["fault"] == ["mislabelled", [["severity", 0.4], ["uniform", 0.15]]]
    assert (
        key["train"] == "d1ca1ed6d99c4729cbe16f5c56ccdfe99b6db30970af31b262c7e8c84afbf6b9"
    )  # of benchmark version 2, seed 0
    facts = {
        "architecture",
        "train",
        "fault",
        "recipe",
        "seed",
        "threads",
        "torch",
        "device",
        "benchmark_version",
        "arithmetic",
    }
    assert set(key) == facts


def test_the_default_subjects_are_no_rows_of_table_two(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Their noise stands in their origin; no twin is trained for them, and the record has no fault
    of its own. A named fault has both.
    """
    monkeypatch.setattr(
        "airepair.subjects.grid.training_of",
        lambda d, m: dataclasses.replace(training_of(d, m), recipe=SHORT.recipe),
    )
    plain, named = (
        load("digits", m, 0, profile="smoke", device=torch.device("cpu"), cache=tmp_path)
        for m in ("fc", "fc+mislabelled")
    )
    assert plain.fault is None
    assert plain.origin["fault"] == {"name": "mislabelled", "severity": 0.4, "uniform": 0.15}
    records = [
        run(prepare(Case("digits", m, "noop", 0), s, build("noop", {}))).record
        for m, s in (("fc", plain), ("fc+mislabelled", named))
    ]
    assert "fault" not in records[0].subject
    assert "no fault" in records[0].missing["recovery"]
    assert records[1].subject["fault"]["severity"] == 0.4
    assert faulty_columns(grid(records)) == {("digits", "fc+mislabelled")}
