"""The metrics against hand-computed examples of their definitions."""

import dataclasses
import math

import pytest
import torch

from airepair.case import Case
from airepair.constraints.parser import parse
from airepair.constraints.published import CIFAR10
from airepair.evaluation.exam import Exam, most_confused, sit
from airepair.evaluation.exams import Exams, FaultExams, Overlap, Pairs, draw_pairs
from airepair.methods import build
from airepair.metrics import METRICS, Missing, score
from airepair.metrics.accuracy import accuracy
from airepair.metrics.attack_success import attack_success
from airepair.metrics.calibration import calibration_error
from airepair.metrics.churn import backward_compatibility, churn, negative_flips
from airepair.metrics.clean_accuracy import clean_accuracy
from airepair.metrics.confusion import confusion, confusion_ab, confusion_ba
from airepair.metrics.constraint import constraint, constraint_tempered, temperature
from airepair.metrics.drawdown import drawdown, worst_class_loss
from airepair.metrics.flips import break_rate, generalisation, net_change, repair_rate
from airepair.metrics.group_accuracy import group_accuracy
from airepair.metrics.localisation import localisation_precision, localisation_recall
from airepair.metrics.pgd import attack, margin, pgd_accuracy
from airepair.metrics.recovery import collateral, recovery, spoiled_accuracy
from airepair.metrics.robustness import close_pairs, robustness
from airepair.metrics.similarity import similarity
from airepair.metrics.top5 import top5
from airepair.metrics.worst_class import class_gap, worst_class_accuracy
from airepair.testing import toy
from airepair.testing.cells import prepare, run
from airepair.types import Robustness, Split

CONSTANTS = Robustness(1.0, 0.1, 1.0, "test")
NO_PAIRS = Pairs(
    torch.zeros(0, dtype=torch.long),
    torch.zeros(0, dtype=torch.long),
    torch.zeros(0, dtype=torch.bool),
    CONSTANTS,
)


def exam(predictions: list[int], y: list[int], classes: int = 4, sure: float = 5.0) -> Exam:
    """An exam whose largest logits are those of `predictions`."""
    logits = torch.zeros(len(predictions), classes)
    for row, k in enumerate(predictions):
        logits[row, k] = sure
    return Exam(logits, torch.tensor(y, dtype=torch.long))


def exams(
    test: Exam, *, failing: Exam | None = None, pair=(0, 1), groups=((0, 1), (2, 3)), pairs=NO_PAIRS
) -> Exams:
    return Exams(test, failing or test, test, groups, pair, pairs)


Y = [0, 0, 1, 1, 2, 2, 3, 3]
BEFORE = exams(exam([0, 1, 1, 1, 2, 0, 3, 2], Y))  # wrong: 1, 5, 7
AFTER = exams(
    exam([0, 0, 0, 1, 2, 3, 3, 3], Y), failing=exam([0, 3, 3], [0, 2, 3])
)  # fixed 1, 7; broken 2; 5 changed, still wrong
EMPTY = exams(exam([], []), pair=None)


def test_accuracy_is_the_share_of_right_predictions():
    """Six of eight."""
    assert accuracy(BEFORE, AFTER) == 6 / 8


def test_flips_count_what_was_fixed_and_what_was_broken():
    """Two of three wrong ones fixed, one of five right ones broken, one more right in eight; two of
    three given ones repaired.
    """
    assert generalisation(BEFORE, AFTER) == pytest.approx(2 / 3)
    assert break_rate(BEFORE, AFTER) == pytest.approx(1 / 5)
    assert net_change(BEFORE, AFTER) == pytest.approx(1 / 8)
    assert repair_rate(BEFORE, AFTER) == pytest.approx(2 / 3)


def test_net_change_is_minus_drawdown_on_the_whole_test_split():
    """Both are the change of accuracy, with opposite signs."""
    assert drawdown(BEFORE, AFTER) == pytest.approx(-1 / 8)
    assert drawdown(AFTER, BEFORE) == -net_change(AFTER, BEFORE)


def test_the_worst_class_can_lose_while_the_accuracy_rises():
    """Class 1 falls from 1 to 1/2."""
    assert worst_class_loss(BEFORE, AFTER) == pytest.approx(1 / 2)


def test_the_worst_class_is_the_models_own_and_the_gap_reaches_to_its_best():
    """Before: classes at 1/2, 1, 1/2, 1/2; after: 1, 1/2, 1/2, 1. The worst class changes from 0 to 1,
    its accuracy and the gap do not; absent classes do not count, and one class alone has no gap.
    """
    assert worst_class_accuracy(BEFORE, BEFORE) == worst_class_accuracy(BEFORE, AFTER) == 1 / 2
    assert class_gap(BEFORE, BEFORE) == class_gap(BEFORE, AFTER) == 1 / 2
    uneven = exams(exam([0, 0, 0, 0, 2, 3, 3], [0, 0, 0, 1, 2, 2, 2]))
    assert worst_class_accuracy(uneven, uneven) == 0
    assert class_gap(uneven, uneven) == 1
    single = exams(exam([2, 3], [2, 2]))
    assert worst_class_accuracy(single, single) == 1 / 2
    assert class_gap(single, single) == Missing("the test split has images of one class only")
    assert isinstance(worst_class_accuracy(EMPTY, EMPTY), Missing)


def test_churn_negative_flips_and_compatibility_share_images_but_not_denominators():
    """Four of eight predictions changed, one right one broke, four of five right ones stayed."""
    assert churn(BEFORE, AFTER) == pytest.approx(4 / 8)
    assert negative_flips(BEFORE, AFTER) == pytest.approx(1 / 8)
    assert backward_compatibility(BEFORE, AFTER) == pytest.approx(4 / 5)


def test_confusion_is_pairwise_precision_and_ignores_all_other_images():
    """P(a, b): predicted a, true a over true a or b. A true 2 predicted as 0 changes nothing."""
    of = exams(exam([0, 0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 0, 2, 3]))
    assert confusion_ab(of, of) == pytest.approx(2 / 3)
    assert confusion_ba(of, of) == pytest.approx(1 / 2)
    assert confusion(of, of) == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_confusion_without_predictions_is_missing_not_zero():
    """0 / 0 is missing, in its direction and in the mean."""
    of = exams(exam([2, 1], [0, 1]))
    assert isinstance(confusion_ab(of, of), Missing)
    assert confusion_ba(of, of) == 1.0
    assert isinstance(confusion(of, of), Missing)


def test_the_most_confused_pair_counts_both_directions_and_ties_go_to_the_lower_ids():
    """(0, 1) once each way equals (2, 3) twice one way."""
    assert most_confused(exam([1, 0, 3, 3], [0, 1, 2, 2]), 4) == (0, 1)
    assert most_confused(exam([1, 3, 3], [0, 2, 2]), 4) == (2, 3)
    assert most_confused(exam([0, 1], [0, 1]), 4) is None


def _probable(p: list[list[float]]) -> Exam:
    return Exam(torch.tensor(p, dtype=torch.double).log(), torch.zeros(len(p), dtype=torch.long))


def test_the_constraint_asks_every_group_and_is_strict():
    """.96 and .04 hold; .94 does not; a group between the two thresholds spoils an image even if
    another group is above .95.
    """
    assert constraint(BEFORE, exams(_probable([[0.5, 0.46, 0.02, 0.02]]))) == 1.0
    assert constraint(BEFORE, exams(_probable([[0.5, 0.44, 0.03, 0.03]]))) == 0.0
    overlapping = ((0, 1), (1, 2), (3,))
    assert constraint(BEFORE, exams(_probable([[0.5, 0.47, 0.02, 0.01]]), groups=overlapping)) == 0.0


def test_the_constraint_rewards_over_confidence_and_its_companion_does_not():
    """The logits times eight: satisfaction rises, at the fitted temperature nothing changes."""
    g = torch.Generator().manual_seed(0)
    y = torch.randint(4, (400,), generator=g)
    logits = torch.randn(400, 4, generator=g) + 1.5 * torch.nn.functional.one_hot(y, 4)
    mild, sure = exams(Exam(logits, y)), exams(Exam(logits * 8, y))
    assert constraint(mild, sure) > constraint(mild, mild) + 0.3
    assert constraint_tempered(mild, sure) == pytest.approx(constraint_tempered(mild, mild), abs=0.02)
    assert temperature(sure.test) == pytest.approx(8 * temperature(mild.test), rel=0.01)
    assert calibration_error(mild, sure) > calibration_error(mild, mild) + 0.1


def test_calibration_error_is_the_weighted_gap_of_each_bin():
    """Two images at .8 of which one is right, and one right at .6: (2 x |.5 - .8| + 1 x |1 - .6|) / 3."""
    of = Exam(
        torch.tensor([[0.8, 0.2], [0.2, 0.8], [0.6, 0.4]], dtype=torch.double).log(), torch.tensor([0, 0, 0])
    )
    assert calibration_error(BEFORE, exams(of)) == pytest.approx((2 * 0.3 + 0.4) / 3)


def test_group_accuracy_forgives_a_mistake_inside_the_group_only():
    """Predicted 1 for a true 0 counts, predicted 2 does not; a label outside all groups is left out."""
    of = exam([1, 2, 0], [0, 0, 3])
    assert group_accuracy(BEFORE, exams(of, groups=((0, 1), (2,)))) == 0.5


def test_top5_looks_at_five_classes_and_is_missing_where_that_says_nothing():
    """Of six classes the smallest is out."""
    logits = torch.tensor([[6.0, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1]])
    assert top5(BEFORE, exams(Exam(logits, torch.tensor([4, 5])))) == 0.5
    assert isinstance(top5(BEFORE, exams(exam([0], [0], classes=5))), Missing)


def test_robustness_is_vacuous_for_pairs_that_are_not_close():
    """Of three pairs one is close and differs, one is close and equal, one is far and differs."""
    of = exam([0, 1, 0], [0, 1, 0])
    pairs = Pairs(
        torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2]), torch.tensor([True, True, False]), CONSTANTS
    )
    assert robustness(BEFORE, exams(of, pairs=pairs)) == pytest.approx(2 / 3)
    assert close_pairs(BEFORE, exams(of, pairs=pairs)) == pytest.approx(2 / 3)


def test_pairs_never_join_an_image_with_itself_and_measure_l2():
    """Two images at distance 2: every pair is (0, 1) or (1, 0); close only for a larger eps1.

    One image gives no pair.
    """
    split = Split(torch.stack([torch.zeros(1, 2, 2), torch.ones(1, 2, 2)]), torch.tensor([0, 1]))
    near = draw_pairs(split, Robustness(2.1, 0.1, 1.0, ""), 50)
    assert bool((near.i != near.j).all())
    assert bool(near.close.all())
    assert not draw_pairs(split, Robustness(2.0, 0.1, 1.0, ""), 50).close.any()
    assert len(draw_pairs(split.select(torch.tensor([0])), CONSTANTS, 50).i) == 0


@pytest.mark.parametrize("before", [BEFORE, EMPTY], ids=["some", "none"])
def test_on_empty_splits_every_metric_is_missing_with_a_reason(before):
    """Never 0, never NaN."""
    values, missing = score(EMPTY, EMPTY)
    assert not values
    assert set(METRICS) <= set(missing)
    assert all("finite" not in r for r in missing.values())
    values, _ = score(before, before)
    assert all(math.isfinite(v) for v in values.values())


def test_margin_is_positive_exactly_where_the_prediction_is_right():
    """The label's logit minus the best other."""
    logits = torch.tensor([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0]])
    assert margin(logits, torch.tensor([1, 2])).tolist() == [1.0, -1.0]


def test_pgd_accuracy_is_below_accuracy_exact_for_a_linear_model_and_missing_where_no_attack_ran():
    """Of a linear two-class model the worst point of the box is known: the margin falls by eps
    times the L1 norm of its weights.
    """
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    with torch.no_grad():
        module[1].weight.copy_(torch.tensor([[1.0, -1.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0]]))
        module[1].bias.zero_()
    x = torch.rand(200, 1, 2, 2, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
    clean = module(x).detach()
    y = (clean[:, 0] < clean[:, 1]).long()
    found = attack(module, Split(x, y))
    assert torch.equal(found, (clean[:, 0] - clean[:, 1]).abs() > 2.5 * 8 / 255)
    assert 0 < found.float().mean() < 1
    assert all(p.requires_grad for p in module.parameters())
    assert isinstance(pgd_accuracy(BEFORE, BEFORE), Missing)
    assert pgd_accuracy(BEFORE, dataclasses.replace(BEFORE, extra={"pgd_right": found})) == pytest.approx(
        float(found.double().mean())
    )


def test_an_attack_never_helps():
    """On the toy subject: no image is right under attack that is wrong without."""
    subject = toy.subject()
    clean = sit(subject.module, subject.dataset.test).right
    assert not (attack(subject.module, subject.dataset.test) & ~clean).any()


def test_similarity_asks_the_five_orderings_of_cifar10_and_nothing_else():
    """A car rather a truck than a dog: satisfied, broken by a tie (delta .01), and a bird, which
    has no rule; other classes are missing.
    """
    logits = torch.zeros(4, 10)
    logits[0, 9] = 1.0
    logits[3, 9] = -1.0
    seen = dataclasses.replace(exams(Exam(logits, torch.tensor([1, 1, 2, 5]))), classes=CIFAR10)
    assert similarity(seen, seen) == pytest.approx(3 / 4)
    assert isinstance(similarity(BEFORE, BEFORE), Missing)
    wanted = parse("CSimilarityT(delta=0.01)", classes=CIFAR10)[0]
    random = dataclasses.replace(
        seen,
        test=Exam(torch.randn(300, 10, generator=torch.Generator().manual_seed(1)), torch.arange(300) % 10),
    )
    scope = wanted.scope(
        lambda x: x[:, :, 0, 0], {"x": random.test.logits[:, :, None, None]}, {"y": random.test.y}, None
    )
    assert similarity(random, random) == pytest.approx(float(wanted.formula.satisfied(scope).double().mean()))


def test_the_attack_runs_where_it_is_asked_for():
    """`pgd=True` attacks the subject and the repaired model, not the states on the way; without it
    the metric is missing with its reason.
    """
    case, method = Case("toy", "mlp", "finetune", 0), build("finetune", {"epochs": 4})
    asked, plain = (run(prepare(case, toy.subject("mlp"), method, pgd=pgd)).record for pgd in (True, False))
    assert 0 < asked.before["pgd_accuracy"] <= asked.before["accuracy"]
    assert 0 < asked.after["pgd_accuracy"] <= asked.after["accuracy"]
    assert asked.phases
    assert not any("pgd_accuracy" in p.scores for p in asked.phases)
    assert "--pgd" in plain.missing["pgd_accuracy"]
    assert {k: v for k, v in asked.after.items() if k != "pgd_accuracy"} == dict(plain.after)


def fault(spoiled: list[int], others: list[int], overlap: Overlap | None, twin: float | None = 0.75) -> Exams:
    """Exams of a subject with a fault: four spoiled inputs of classes 0 to 3 with these answers, four
    others, three clean ones; the backdoor leads to class 2.
    """
    y = [0, 1, 2, 3]
    known = FaultExams(exam(spoiled, y), exam(others, y), twin, 2, exam([0, 1, 1], [0, 1, 2]), overlap)
    return dataclasses.replace(BEFORE, fault=known)


def test_what_became_of_a_known_fault():
    """Spoiled inputs from 1/4 to 2/4 with a twin at 3/4: half of the way; one of four others broken;
    of three changed weights two are of the four damaged ones.
    """
    before = fault([0, 2, 0, 2], [0, 1, 2, 3], None)
    after = fault([0, 1, 1, 2], [0, 1, 2, 2], Overlap(changed=3, damaged=4, both=2))
    assert recovery(before, after) == pytest.approx(1 / 2)
    assert collateral(before, after) == pytest.approx(1 / 4)
    assert spoiled_accuracy(before, after) == pytest.approx(2 / 4)
    assert attack_success(before, before) == pytest.approx(2 / 4)
    assert attack_success(before, after) == pytest.approx(1 / 4)
    assert clean_accuracy(before, after) == pytest.approx(2 / 3)
    assert localisation_precision(before, after) == pytest.approx(2 / 3)
    assert localisation_recall(before, after) == pytest.approx(2 / 4)


def test_without_a_known_fault_its_metrics_are_missing():
    """No fault, no overlap, no changed weight, no twin, or one that is no better."""
    plain, faulty = BEFORE, fault([0, 2, 0, 2], [0, 1, 2, 3], None)
    for metric in (recovery, collateral, spoiled_accuracy, attack_success, clean_accuracy):
        assert isinstance(metric(plain, plain), Missing)
    for metric in (localisation_precision, localisation_recall):
        assert isinstance(metric(plain, plain), Missing)
        assert isinstance(metric(faulty, faulty), Missing)
    still = fault([0, 2, 0, 2], [0, 1, 2, 3], Overlap(changed=0, damaged=4, both=0))
    assert localisation_precision(still, still) == Missing("no weight was changed")
    assert localisation_recall(still, still) == 0
    for twin in (None, 0.25, 0.2):
        no_better = fault([0, 2, 0, 2], [0, 1, 2, 3], None, twin)
        assert isinstance(recovery(no_better, no_better), Missing)
    assert recovery(faulty, faulty) == 0
