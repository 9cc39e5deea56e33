"""A method must leave the task's data and the subject as they were: digests before and after, and what becomes of an outcome where they differ."""

from __future__ import annotations

import dataclasses

from airepair.data.splits import digest as of_split
from airepair.pipeline import Outcome
from airepair.provenance import digest as of_module
from airepair.types import Subject

REASON = "the method changed the data or the subject"


def digests(subject: Subject) -> tuple[str, ...]:
    """Of the weights and of every split."""
    data = subject.dataset
    return (of_module(subject.module), *(of_split(s) for s in (data.train, data.repair, data.validation, data.test)))


def checked(outcome: Outcome, subject: Subject, before: tuple[str, ...]) -> Outcome:
    """The outcome, failed where the subject is no longer what it was."""
    if digests(subject) == before:
        return outcome
    failed = dataclasses.replace(outcome.record, status="failed", reason=REASON, after={})
    return dataclasses.replace(outcome, record=failed, module=None, after=None)
