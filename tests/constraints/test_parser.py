"""Text to constraints: what is read, and where an error points."""

import re
from contextlib import suppress

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from airepair.constraints.parser import parse
from airepair.constraints.published import CIFAR10, DIGITS, FASHION, NAMED, Box, Segment
from airepair.constraints.terms import Scope
from airepair.data import cifar, mnist
from airepair.errors import UsageError
from airepair.types import Robustness

G = torch.Generator().manual_seed(0)
LOGITS = {k: torch.randn(8, 10, generator=G) for k in ("x", "x2", "z", "w")}
POINTS = {k: torch.rand(8, 3, 4, 4, generator=G) for k in ("x", "x2", "z", "w")}
LABELS = {"y": torch.tensor([0, 1, 3, 4, 5, 2, 9, 1]), "y2": torch.tensor([1, 1, 3, 5, 5, 0, 8, 2])}
SCOPE = Scope(POINTS, LOGITS, LABELS, torch.eye(10)[:, :4])
P = {k: v.softmax(1) for k, v in LOGITS.items()}


def distance(a: str, b: str) -> torch.Tensor:
    return (POINTS[a] - POINTS[b]).flatten(1).norm(dim=1)


def kl(a: str, b: str) -> torch.Tensor:
    return (P[a] * (P[a] / P[b]).log()).sum(1)


def similar(of: torch.Tensor, delta: float) -> torch.Tensor:
    """DL2's five orderings, written out by class name."""
    i = {name: k for k, name in enumerate(CIFAR10)}
    rules = [
        ("automobile", "truck", "dog"),
        ("deer", "horse", "ship"),
        ("airplane", "ship", "frog"),
        ("dog", "cat", "truck"),
    ]
    total = torch.zeros(len(of))
    for y, near, far in [*rules, ("cat", "dog", "automobile")]:
        total += (LABELS["y"] == i[y]) * (of[:, i[far]] + delta - of[:, i[near]]).clamp_min(0)
    return total


def blend() -> torch.Tensor:
    a, b = distance("z", "x"), distance("z", "x2")
    w = b / (a + b)
    log_p = LOGITS["z"].log_softmax(1)
    rows = torch.arange(8)
    return -(w * log_p[rows, LABELS["y"]] + (1 - w) * log_p[rows, LABELS["y2"]])


def change(a: str, b: str) -> torch.Tensor:
    return (LOGITS[a] - LOGITS[b]).norm(dim=1)


PUBLISHED = {
    "Groups()": lambda: (P["x"][:, :4] * (1 - P["x"][:, :4])).sum(1),
    "RobustnessT(eps1=4, eps2=0.5)": lambda: (
        (4 - distance("x", "x2")).clamp_min(0) * (kl("x", "x2") - 0.5).clamp_min(0)
    ),
    "RobustnessG(eps=0.3, delta=0.52)": lambda: (
        torch.tensor(0.52).log() - P["z"].log()[torch.arange(8), LABELS["y"]]
    ).clamp_min(0),
    "LipschitzT(L=0.5)": lambda: (change("x", "x2") - 0.5 * distance("x", "x2")).clamp_min(0),
    "LipschitzG(eps=0.1, L=1)": lambda: (change("z", "w") - distance("z", "w")).clamp_min(0),
    "CSimilarityT(delta=0.01)": lambda: similar(LOGITS["x"], 0.01),
    "CSimilarityG(eps=0.3, delta=1)": lambda: similar(LOGITS["z"], 1.0),
    "SegmentG(eps=100, delta=1.5)": lambda: (
        (LABELS["y"] != LABELS["y2"]) * (blend() - 1.5).clamp_min(0) * 1.0
    ),
}


@pytest.mark.parametrize("text", PUBLISHED)
def test_a_published_constraint_has_the_published_loss(text):
    """Computed here from its formula, without the logic."""
    (found,) = parse(text)
    expected = PUBLISHED[text]()
    assert torch.allclose(found.formula.loss(SCOPE), expected, atol=1e-5)
    assert expected.max() > 0
    assert found.text == text or text == "Groups()"


def test_segment_g_asks_nothing_of_pairs_that_are_far():
    """The premise: different labels and a distance of at most eps. SegmentG(eps=0) is void."""
    assert parse("SegmentG(eps=0)")[0].formula.loss(SCOPE).abs().max() == 0


def test_labels_are_names_so_comparing_them_is_a_fact():
    """y == 3 has loss 0 or 1 however far the label is from 3; given(...) makes a fact of any formula."""
    assert parse("y == 3")[0].formula.loss(SCOPE).tolist() == [float(k != 3) for k in LABELS["y"]]
    assert parse("not y == 3")[0].formula.loss(SCOPE).tolist() == [float(k == 3) for k in LABELS["y"]]
    far = parse("given(dist(x, x2) > 2.8)")[0].formula
    assert far.loss(SCOPE).tolist() == [float(d <= 2.8) for d in distance("x", "x2")]


def test_the_classes_that_settings_go_by_are_those_of_the_data_sets() -> None:
    """The logic knows no data set; these are kept equal here."""
    assert (DIGITS, FASHION, CIFAR10) == (mnist.DIGITS, mnist.FASHION, cifar.CIFAR10)


def test_every_published_constraint_is_tried_above():
    """A constraint that is added is tested."""
    assert {t.partition("(")[0] for t in PUBLISHED} == set(NAMED)


def test_constants_that_are_not_given_are_the_data_sets_own():
    """RobustnessT takes eps1, eps2 and its weight from the data set."""
    (found,) = parse("RobustnessT", robustness=Robustness(7.8, 2.9, 0.2, "published"))
    assert (found.text, found.weight, found.radius) == ("RobustnessT(eps1=7.8, eps2=2.9)", 0.2, 7.8)


@pytest.mark.parametrize(
    ("text", "classes", "shown", "weight", "steps"),
    [
        ("RobustnessG", DIGITS, "RobustnessG(eps=0.3, delta=0.52)", 0.2, 50),
        ("RobustnessG", FASHION, "RobustnessG(eps=0.3, delta=0.52)", 0.2, 50),
        ("RobustnessG", CIFAR10, "RobustnessG(eps=0.3, delta=0.52)", 0.1, 7),
        ("LipschitzT", DIGITS, "LipschitzT(L=1)", 0.1, 7),
        ("LipschitzG", DIGITS, "LipschitzG(eps=0.3, L=0.1)", 0.2, 5),
        ("LipschitzG", FASHION, "LipschitzG(eps=0.3, L=0.3)", 0.2, 50),
        ("LipschitzG", CIFAR10, "LipschitzG(eps=0.3, L=1)", 0.1, 5),
        ("LipschitzG(L=2)", FASHION, "LipschitzG(eps=0.3, L=2)", 0.2, 50),
        ("CSimilarityT", CIFAR10, "CSimilarityT(delta=0.01)", 0.2, 7),
        ("CSimilarityG", CIFAR10, "CSimilarityG(eps=0.3, delta=1)", 0.2, 10),
        ("SegmentG", DIGITS, "SegmentG(eps=100, delta=1.5)", 0.01, 5),
    ],
)
def test_numbers_weight_and_steps_are_those_of_the_authors_script_for_the_data_set(
    text: str, classes: tuple[str, ...], shown: str, weight: float, steps: int
) -> None:
    """A line of run.sh each."""
    (found,) = parse(text, classes=classes)
    assert (found.text, found.weight, found.steps) == (shown, weight, steps)


def test_parameters_go_by_name_or_place_and_brackets_may_be_left_out():
    """Three ways of writing the defaults, one of each kind."""
    assert [parse(t)[0].text for t in ("LipschitzG(.3, 1)", "LipschitzG(L=1, eps=.3)", "LipschitzG")] == [
        "LipschitzG(eps=0.3, L=1)"
    ] * 3


def test_a_top_level_and_joins_constraints_that_keep_their_own_weights():
    """Groups .6 and LipschitzT .1; inside an `or` they are one formula."""
    assert [c.weight for c in parse("Groups() and LipschitzT()")] == [0.6, 0.1]
    assert len(parse("Groups() or LipschitzT()")) == 1


def test_and_binds_tighter_than_or_and_or_tighter_than_implication():
    """not first, then and, or, =>, which groups to the right."""

    def holds(text: str) -> bool:
        return bool(parse(text)[0].formula.satisfied(Scope()))

    assert holds("true or false and false")
    assert not holds("(true or false) and false")
    assert holds("false and false => false")
    assert holds("false => true => false")
    assert not holds("(false => true) => false")
    assert not holds("not true or false")
    assert not holds("not (1 < 2 and 2 < 3)")


def test_arithmetic_has_its_usual_precedence():
    """Products before sums, left to right, signs, brackets and functions."""
    for text in (
        "1 + 2 * 3 == 7",
        "(1 + 2) * 3 == 9",
        "7 - 2 - 1 == 4",
        "8 / 2 / 2 == 2",
        "-2 * -3 == 6",
        "abs(-2) == 2",
        "log(exp(0)) == 0",
    ):
        assert bool(parse(text)[0].formula.satisfied(Scope())), text


def test_classes_are_named_numbered_or_collected():
    """p of a set is the sum; names need the data set's classes."""
    (found,) = parse("p(x, {cat, dog}) >= 2", classes=CIFAR10)
    assert torch.allclose(found.formula.loss(SCOPE), 2 - P["x"][:, [3, 5]].sum(1))
    assert torch.equal(parse("logit(x, 3) < 0")[0].formula.satisfied(SCOPE), LOGITS["x"][:, 3] < 0)


def test_a_quantifier_names_points_and_their_regions():
    """Boxes and segments; what the oracle must move and what the network is asked."""
    (found,) = parse("forall z in box(x, 0.1), w in segment(x, x2): kl(z, w) < 1")
    assert found.regions == {"z": Box("x", 0.1), "w": Segment("x", "x2")}
    assert found.outputs == {"z", "w"}
    assert found.pairwise
    assert not found.labelled


def test_what_a_constraint_needs_is_read_off_its_formula():
    """Pairs, labels, and at which points the network is asked."""
    assert parse("RobustnessT")[0].pairwise
    assert not parse("Groups")[0].pairwise
    assert parse("RobustnessG")[0].labelled
    assert parse("SegmentG")[0].outputs == {"z"}


@pytest.mark.parametrize(
    ("text", "column", "word"),
    [
        ("", 1, "the end"),
        ("dist(x, x3) < 1", 9, "x3"),
        ("RobustnessT(eps3=1)", 13, "eps3"),
        ("RobustnessT(eps1=1, eps1=2)", 21, "eps1"),
        ("RobustnessT(1, 2, 3)", 19, "3"),
        ("LipschitzT(L=big)", 14, "big"),
        ("p(x, 1) <", 10, "the end"),
        ("1 < 2 < 3", 7, "two sides"),
        ("x $ y", 3, "$"),
        ("1 < 2)", 6, ")"),
        ("(1 < 2", 7, "the end"),
        ("Lipschitz() ", 1, "Lipschitz"),
        ("groups(x) == 1", 1, "every"),
        ("every(y == 1)", 7, "groups"),
        ("not forall z in box(x, 1): 1 < 2", 1, "forall"),
        ("forall x in box(x, 1): 1 < 2", 8, "new name"),
        ("forall z in ball(x, 1): 1 < 2", 13, "ball"),
        ("logit(x, 10) < 0", 10, "10"),
        ("logit(x, tiger) < 0", 10, "tiger"),
        ("1e999 < 2", 1, "1e999"),
        ("__import__('os')", 12, "'"),
        ("().__class__", 3, "."),
    ],
)
def test_an_error_names_the_column_the_text_and_what_is_wrong(text, column, word):
    """One line."""
    with pytest.raises(UsageError, match=rf"column {column}: .*{re.escape(word)}") as caught:
        parse(text, classes=CIFAR10)
    assert "\n" not in str(caught.value)


def test_csimilarity_is_refused_for_other_classes_than_cifar10s():
    """Its orderings are about cats and trucks."""
    with pytest.raises(UsageError, match="CIFAR-10"):
        parse("Groups() and CSimilarityT()", classes=("a", "b"))


SIGNS = ["(", ")", "{", "}", ",", "x", "x2", "y", "1", "0.5", "<", "<=", "==", "=>", ":", "-", "*", "="]
WORDS = [
    "and",
    "or",
    "not",
    "forall",
    "z",
    "in",
    "box",
    "every",
    "given",
    "groups",
    "p",
    "kl",
    "Groups",
    "RobustnessT",
]


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(SIGNS + WORDS)).map(" ".join))
def test_any_sequence_of_words_is_a_constraint_or_a_usage_error(text):
    """Never another exception."""
    with suppress(UsageError):
        assert parse(text)


@pytest.mark.parametrize(
    "text", ["(" * 3000 + "1", "not " * 3000 + "true", "-" * 3000 + "1 < 2", "1 < 2 => " * 3000 + "true"]
)
def test_deep_nesting_is_an_error_of_one_line_not_a_crash(text):
    """No RecursionError."""
    with pytest.raises(UsageError, match="deep"):
        parse(text)


def test_depth_is_that_of_a_place_whatever_stands_before_it():
    """Two hundred terms side by side are not nested, and none of them lets a later one go deeper."""
    beside = " + ".join(["1"] * 200)
    for before in ("", f"{beside} + "):
        parse(f"{before}{'-' * 50}1 < 500")
        with pytest.raises(UsageError, match="nested more than 60 deep"):
            parse(f"{before}{'-' * 61}1 < 500")


@pytest.mark.parametrize(("before", "after"), [("-", ""), ("(", ")")])
def test_the_last_depth_that_is_allowed_is_read_and_the_next_is_not(before: str, after: str) -> None:
    """A formula around a term takes two of the 60 levels."""
    assert parse(f"{before * 58}1{after * 58} < 500")
    with pytest.raises(UsageError, match="nested more than 60 deep"):
        parse(f"{before * 59}1{after * 59} < 500")
