"""Workers ask, the controller submits: with threads for workers, and without a cluster."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from pathlib import Path

import pytest
from builders import a_run

from pytest_ftcheck.errors import ExecutorError, TimeLimitError
from pytest_ftcheck.executor.checkout import Checkout
from pytest_ftcheck.executor.executor import in_background
from pytest_ftcheck.executor.outcome import Outcome
from pytest_ftcheck.executor.relay import Contact, Relay
from pytest_ftcheck.executor.remote import Resources
from pytest_ftcheck.executor.task import Task

TASK = Task("a run", "ticket", "key", 1, 1, False, None, False, "", None, Checkout("/", "/", ()), {})


class Submissions:
    """What a cluster is asked for; it answers when ``answers`` is set."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes]] = []
        self.is_asked, self.answers = threading.Event(), threading.Event()
        self.error: Exception | None = None

    def carry_out(self, task: Task, parcel: bytes) -> Outcome:
        self.asked.append((task.ticket, parcel))
        self.is_asked.set()
        assert self.answers.wait(30)
        if self.error is not None:
            raise self.error
        return Outcome("a node", a_run("full", seed=3), {"data.txt": "digest"})


@pytest.fixture
def submissions() -> Submissions:
    return Submissions()


@pytest.fixture
def contact(submissions: Submissions) -> Iterator[Contact]:
    relay = Relay(submissions.carry_out, Resources(1, ("H100",)))
    # A worker knows no more than what its input says.
    yield Contact.from_json(relay.contact.to_json())
    relay.close()


def test_two_workers_that_need_one_run_have_it_submitted_once(contact: Contact, submissions: Submissions) -> None:
    both = [in_background(lambda: contact.carry_out(TASK, b"request")) for _ in range(2)]
    submissions.answers.set()
    outcomes = [one.result(timeout=30) for one in both]
    assert outcomes[0] == outcomes[1] == Outcome("a node", a_run("full", seed=3), {"data.txt": "digest"})
    assert submissions.asked == [("ticket", b"request")]


def test_runs_with_other_tickets_are_submitted_each(contact: Contact, submissions: Submissions) -> None:
    """What the last test would not notice if nothing were ever submitted twice."""
    submissions.answers.set()
    for ticket in ("one", "two"):
        contact.carry_out(dataclasses.replace(TASK, ticket=ticket), b"request")
    assert [ticket for ticket, _ in submissions.asked] == ["one", "two"]


def test_a_run_goes_on_when_the_worker_dies_that_has_asked(contact: Contact, submissions: Submissions) -> None:
    with Client(contact.address, authkey=bytes.fromhex(contact.secret)) as dying:
        dying.send_bytes(TASK.to_json().encode())
        dying.send_bytes(b"request")
        assert submissions.is_asked.wait(30)
    submissions.answers.set()
    assert contact.carry_out(TASK, b"request").node == "a node"
    assert len(submissions.asked) == 1


def test_an_error_of_the_submission_reaches_the_worker_as_it_is(contact: Contact, submissions: Submissions) -> None:
    submissions.error = TimeLimitError("a run took longer than 3 s")
    submissions.answers.set()
    with pytest.raises(TimeLimitError, match=r"^a run took longer than 3 s$"):
        contact.carry_out(TASK, b"request").trained()


def test_who_does_not_know_the_secret_is_not_answered_and_keeps_nobody_else_from_it(
    contact: Contact, submissions: Submissions
) -> None:
    submissions.answers.set()
    with pytest.raises(AuthenticationError):
        Client(contact.address, authkey=b"a guess")
    assert contact.carry_out(TASK, b"request").node == "a node"


def test_a_worker_whose_controller_has_ended_does_not_wait(submissions: Submissions, tmp_path: Path) -> None:
    relay = Relay(submissions.carry_out, Resources(0, ()))
    relay.close()
    with pytest.raises(ExecutorError, match=r"^the session's controller, which submits runs, has ended$"):
        relay.contact.carry_out(TASK, b"request")
