"""The conformance suite for repair methods, shipped to third parties. A method's test is three lines:

    from airepair.testing.conformance import MethodConformance
    from mine import Mine
    class TestMine(MethodConformance): method = Mine

Each test is one rule of the contract (card.py, contract.py); a failure is three lines: what is
wanted, what was seen, what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, ClassVar

import pytest

from airepair.testing import card, contract, declarations
from airepair.testing.bench import Bench, Violation
from airepair.testing.toy import Architecture
from airepair.types import Method


class MethodConformance:
    """It is a class to inherit: name your method in it.

    options        small-budget settings that keep the tests short, for example {"epochs": 2}
    architectures  the toy subjects to repair; a method need support only one of them
    """

    method: ClassVar[type[Method]]
    options: ClassVar[Mapping[str, Any]] = {}
    architectures: ClassVar[tuple[Architecture, ...]] = ("mlp", "cnn")

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Runs the tests that repair something once for each architecture."""
        if "bench" in metafunc.fixturenames:
            metafunc.parametrize("bench", self.architectures, indirect=True)

    @pytest.fixture
    def bench(self, request: pytest.FixtureRequest) -> Bench:
        """Returns the method's bench on one toy subject."""
        return bench_of(request.cls, request.param)

    def test_the_class_is_a_card(self) -> None:
        """The class is a frozen dataclass with name, category and paper, and a docstring."""
        holds(card.card, Bench(self.method, self.options))

    def test_options_are_documented_and_in_range(self) -> None:
        """Every option has a help text and an acceptable default; unknown ones and values out of
        range are refused.
        """
        holds(card.options, Bench(self.method, self.options))

    def test_its_sources_are_stated(self) -> None:
        """What it learns from, by name."""
        holds(declarations.sources, Bench(self.method, self.options))

    def test_it_never_sees_the_test_split(self) -> None:
        """The task holds no test images, and repair takes nothing but the task."""
        holds(card.no_test_split, Bench(self.method, self.options))

    def test_it_supports_a_toy_subject(self) -> None:
        """At least one of the architectures is repaired, not refused: else nothing below would be checked."""
        suite: Any = type(self)
        trials = {a: bench_of(suite, a).started[0] for a in self.architectures}
        if all(trial is not None and trial.refusal is not None for trial in trials.values()):
            refusals = {a: trial.refusal for a, trial in trials.items() if trial}
            pytest.fail(
                f"the contract wants: one toy subject is repaired\n  seen: {refusals}\n  do: "
                f"set `architectures` or `options`",
                False,
            )

    def test_it_returns_a_module(self, bench: Bench) -> None:
        """`repair` returns a module on the task's device, or raises Unsupported with a reason;
        where this fails, the tests below are skipped.
        """
        holds(contract.returns, bench)

    def test_it_keeps_the_interface(self, bench: Bench) -> None:
        """The logits are finite floats, N x K, on the same device, for every batch size."""
        repaired(bench)
        holds(contract.interface, bench)

    def test_it_is_deterministic(self, bench: Bench) -> None:
        """Two repairs of one seed are equal bit for bit."""
        repaired(bench)
        holds(contract.deterministic, bench)

    def test_its_random_numbers_follow_the_seed(self, bench: Bench) -> None:
        """Another seed starts other generators."""
        repaired(bench)
        holds(contract.seeded, bench)

    def test_it_leaves_the_global_generators_alone(self, bench: Bench) -> None:
        """The generators of torch, numpy and random are where they were."""
        ended(bench)
        holds(contract.global_generators, bench)

    def test_it_leaves_its_inputs_alone(self, bench: Bench) -> None:
        """Data and checkpoints are what they were."""
        ended(bench)
        holds(contract.inputs, bench)

    def test_the_result_can_be_saved_and_loaded(self, bench: Bench) -> None:
        """The state_dict holds all of it; the module as a whole can be saved too."""
        repaired(bench)
        holds(contract.saving, bench)

    def test_it_leaves_a_perfect_model_alone(self, bench: Bench) -> None:
        """There are no failing inputs: nothing changes, or a note says why."""
        repaired(bench)
        holds(contract.perfect_model, bench)

    def test_it_obeys_the_time_limit(self, bench: Bench) -> None:
        """What task.progress raises ends the repair."""
        repaired(bench)
        holds(contract.time_limit, bench)

    def test_its_training_is_counted(self, bench: Bench) -> None:
        """There is no gradient without an image on the meter."""
        repaired(bench)
        holds(contract.counted, bench)

    def test_its_images_explain_its_work(self, bench: Bench) -> None:
        """The operations of a repair are counted: no training that the meter does not see."""
        repaired(bench)
        holds(contract.audited, bench)

    def test_it_keeps_to_its_budget(self, bench: Bench) -> None:
        """It does not exceed what it declares before the repair."""
        repaired(bench)
        holds(declarations.budget, bench)

    def test_its_ablations_switch_off_its_idea_alone(self, bench: Bench) -> None:
        """Each ablation has as many images and a change of the same size."""
        repaired(bench)
        holds(declarations.ablations, bench)

    def test_it_reads_images_of_bytes(self, bench: Bench) -> None:
        """Splits of uint8 images work."""
        repaired(bench)
        holds(contract.bytes_as_well, bench)

    def test_a_poisoned_test_split_changes_nothing(self, bench: Bench) -> None:
        """The whole pipeline with another test split gives the same repaired weights."""
        repaired(bench)
        holds(contract.poisoned_test, bench)

    def test_it_refuses_with_a_reason(self, bench: Bench) -> None:
        """If it cannot repair, it raises Unsupported and does not crash."""
        ended(bench)
        holds(contract.refusals, bench)


@lru_cache(maxsize=8)
def bench_of(suite: Any, architecture: Architecture) -> Bench:
    """Returns the bench that the tests of one suite share, so that its repairs run once, when the
    first test asks for them.
    """
    return Bench(suite.method, suite.options, architecture)


def holds(check: Callable[[Bench], None], bench: Bench) -> None:
    """Fails with the rule's three lines and nothing else where it is broken."""
    said = ""
    try:
        check(bench)
    except Violation as violation:
        said = str(violation)
    if said:  # outside the handler: pytest would show the chain of exceptions
        pytest.fail(said, pytrace=False)


def ended(bench: Bench) -> None:
    """Skips where the first repair gave nothing to look at: one failure says why, not twelve."""
    if bench.started[0] is None:
        pytest.skip("nothing to look at: see test_it_returns_a_module")


def repaired(bench: Bench) -> None:
    """Skips where the method refuses this architecture."""
    ended(bench)
    if bench.first.refusal is not None:
        pytest.skip(f"unsupported: {bench.first.refusal}")
