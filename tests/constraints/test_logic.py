"""The laws of DL2's logic, for arbitrary numbers and formulas."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from airepair.constraints.formulas import EQ, LE, LT, NE, And, Every, Formula, Or, Some, Truth, implies
from airepair.constraints.terms import Blend, Distance, Divergence, Groups, Output, Scope, Value

N = 5
# Quarters, so that sums and differences are exact and products of a few losses cannot underflow.
numbers = st.integers(-12, 12).map(lambda k: k / 4)
batches = st.lists(numbers, min_size=N, max_size=N).map(lambda v: Value(torch.tensor(v, dtype=torch.double)))
strict = st.builds(lambda c, a, b: c(a, b), st.sampled_from([LE, LT, EQ, NE]), batches, batches)
loose = st.builds(lambda c, a, b: c(a, b), st.sampled_from([LE, EQ]), batches, batches)


def compound(of: st.SearchStrategy[Formula]) -> st.SearchStrategy[Formula]:
    members = st.lists(of, min_size=1, max_size=3).map(tuple)
    return members.map(And) | members.map(Or) | of.map(lambda f: f.negated()) | st.builds(implies, of, of)


formulas = st.recursive(strict, compound, max_leaves=6)
scopes = st.sampled_from([Scope(disjunction="product"), Scope(disjunction="min")])


def loss(formula: Formula, scope: Scope = Scope()) -> torch.Tensor:  # noqa: B008
    return formula.loss(scope).expand(N)


@settings(deadline=None)
@given(formulas, scopes)
def test_the_loss_is_never_negative_and_zero_exactly_where_the_formula_holds(formula, scope):
    """With strict comparisons too: their loss is 1 where both sides are equal."""
    found = loss(formula, scope)
    assert bool((found >= 0).all())
    assert torch.equal(found == 0, formula.satisfied(scope).expand(N))


@settings(deadline=None)
@given(formulas)
def test_the_negation_holds_exactly_where_the_formula_does_not(formula):
    """And negating twice gives the same satisfaction and, for comparisons, the same formula."""
    scope = Scope()
    assert torch.equal(formula.negated().satisfied(scope), ~formula.satisfied(scope))
    assert torch.equal(formula.negated().negated().satisfied(scope), formula.satisfied(scope))


@settings(deadline=None)
@given(st.lists(formulas, min_size=1, max_size=3).map(tuple), scopes)
def test_de_morgan(members, scope):
    """not (a and b) is (not a) or (not b), and the other way round, in loss as well."""
    assert torch.equal(
        loss(And(members).negated(), scope), loss(Or(tuple(m.negated() for m in members)), scope)
    )
    assert torch.equal(
        loss(Or(members).negated(), scope), loss(And(tuple(m.negated() for m in members)), scope)
    )


@settings(deadline=None)
@given(formulas, formulas)
def test_an_implication_is_violated_only_where_its_premise_holds_and_its_conclusion_does_not(a, b):
    """And a false premise makes its loss 0."""
    scope = Scope()
    holds = implies(a, b).satisfied(scope)
    assert torch.equal(~holds, a.satisfied(scope) & ~b.satisfied(scope))
    assert bool((loss(implies(a, b))[~a.satisfied(scope)] == 0).all())


@settings(deadline=None)
@given(formulas, scopes, st.permutations(range(N)))
def test_the_loss_is_per_sample(formula, scope, order):
    """One sample alone has the loss that it has in a batch: nothing is summed or minimised over the batch."""

    def alone(f: Formula, k: int) -> Formula:
        if isinstance(f, (And, Or)):
            return type(f)(tuple(alone(m, k) for m in f.members))
        return type(f)(Value(f.a.tensor[k : k + 1]), Value(f.b.tensor[k : k + 1]))

    k = order[0]
    assert float(alone(formula, k).loss(scope)) == float(loss(formula, scope)[k])


@settings(deadline=None)
@given(st.recursive(loose, compound, max_leaves=5), scopes)
def test_gradients_are_finite(formula, scope):
    """Also where both sides of a comparison are equal."""
    leaves = []

    def tracked(f: Formula) -> Formula:
        if isinstance(f, (And, Or)):
            return type(f)(tuple(tracked(m) for m in f.members))
        leaves.extend([f.a.tensor.clone().requires_grad_(), f.b.tensor.clone().requires_grad_()])
        return type(f)(Value(leaves[-2]), Value(leaves[-1]))

    value = tracked(formula).loss(scope).sum()
    assume(value.requires_grad)  # "not equal" alone is a number without a slope
    slopes = [s for s in torch.autograd.grad(value, leaves, allow_unused=True) if s is not None]
    assert slopes
    assert all(bool(torch.isfinite(s).all()) for s in slopes)


def test_comparisons_translate_as_published():
    """<= is a hinge, < adds 1 at equality, == is the absolute difference, != is 1 at equality."""
    a, b = Value(torch.tensor([1.0, 2.0, 3.0])), Value(torch.tensor([2.0, 2.0, 1.0]))
    scope = Scope()
    assert LE(a, b).loss(scope).tolist() == [0, 0, 2]
    assert LT(a, b).loss(scope).tolist() == [0, 1, 2]
    assert EQ(a, b).loss(scope).tolist() == [1, 0, 2]
    assert NE(a, b).loss(scope).tolist() == [0, 1, 0]


def test_or_is_the_product_by_default_and_the_minimum_of_each_sample_by_option():
    """The published `min` took one number over the whole batch."""
    zero = Value(0.0)
    either = Or((LE(Value(torch.tensor([2.0, 5.0])), zero), LE(Value(torch.tensor([3.0, 0.5])), zero)))
    assert either.loss(Scope()).tolist() == [6.0, 2.5]
    assert either.loss(Scope(disjunction="min")).tolist() == [2.0, 0.5]


def test_true_and_false():
    """Loss 0 and 1, and each the negation of the other."""
    assert Truth(True).loss(Scope()) == 0
    assert Truth(True).negated() == Truth(False)
    assert Truth(False).loss(Scope()) == 1


def test_the_group_constraint_is_the_sum_over_groups_of_s_times_one_minus_s():
    """Or(s == 0, s == 1) for every group, per image."""
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    groups = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    scope = Scope(logits={"x": logits}, groups=groups)
    s = logits.softmax(1) @ groups
    formula = Every(Or((EQ(Groups("x"), Value(0.0)), EQ(Groups("x"), Value(1.0)))))
    assert torch.allclose(formula.loss(scope), (s * (1 - s)).sum(1))


def test_every_and_some_are_and_and_or_over_the_groups():
    """Negation exchanges them."""
    logits = torch.tensor([[9.0, 0, 0], [0, 0, 0]])
    scope = Scope(logits={"x": logits}, groups=torch.eye(3))
    sure = LE(Value(0.9), Groups("x"))
    assert Some(sure).satisfied(scope).tolist() == [True, False]
    assert Every(sure.negated()).satisfied(scope).tolist() == [False, True]
    assert isinstance(Some(sure).negated(), Every)
    assert Some(sure).loss(scope)[0] == 0
    assert Some(sure).loss(scope)[1] > 0


def test_distance_and_divergence_of_a_point_with_itself_have_finite_gradients():
    """The norm at 0 and KL at equality: value 0, gradient finite."""
    x = torch.rand(2, 1, 3, 3).requires_grad_()
    logits = torch.randn(2, 4).requires_grad_()
    scope = Scope(points={"x": x, "x2": x}, logits={"x": logits, "x2": logits})
    value = Distance("x", "x2").value(scope) + Divergence("x", "x2").value(scope)
    assert torch.allclose(value, torch.zeros(2), atol=1e-6)
    assert all(bool(torch.isfinite(g).all()) for g in torch.autograd.grad(value.sum(), [x, logits]))


def test_a_blend_weighs_each_label_by_closeness():
    """A quarter of the way from x to x2 the label of x counts three quarters."""
    x, x2 = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    logits = torch.tensor([[1.0, 2.0]])
    labels = {"y": torch.tensor([0]), "y2": torch.tensor([1])}
    scope = Scope(points={"x": x, "x2": x2, "z": x + 0.25}, logits={"z": logits}, labels=labels)
    log_p = logits.log_softmax(1)[0]
    assert float(Blend("z", "x", "x2").value(scope)) == pytest.approx(
        float(-(0.75 * log_p[0] + 0.25 * log_p[1]))
    )


class Operations(TorchDispatchMode):
    """Notes what is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(str(func.overloadpacket))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["logit", "logp", "p"])
def test_a_set_of_classes_is_read_without_an_index_of_the_host(kind):
    """A recorded search may not copy one to the device; the bits and the gradient are those of an index."""
    classes, found = [6, 1, 3], []
    for indexed in (True, False):
        logits = torch.randn(N, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
        if indexed:
            of = {"logit": logits, "logp": logits.log_softmax(1), "p": logits.softmax(1)}[kind][:, classes]
            value = of.sum(1) if kind == "p" else of.logsumexp(1)
        else:
            with Operations() as operations:
                value = Output(kind, "x", tuple(classes)).value(Scope(logits={"x": logits}))
        (value * torch.arange(N)).sum().backward()
        found.append((value.detach(), logits.grad))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert operations.names.isdisjoint({"aten.index", "aten.lift_fresh"})


def test_the_least_of_two_losses_stays_on_its_device():
    """A constant of the host beside it is no reason to move it."""
    there = Value(torch.zeros(N, device="meta"))
    for members in ((Truth(False), LE(there, there)), (LE(there, there), Truth(False))):
        assert Or(members).loss(Scope(disjunction="min")).device.type == "meta"
