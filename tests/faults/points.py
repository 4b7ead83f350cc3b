"""Loaded into worker processes only (`celery worker --include tests.faults.points`). The product has no hooks.

Functions of the product are wrapped, so that a process kills itself, sleeps or raises where the laboratory's
orders say, and `app.clock.now`, the only clock that the product reads, gets the laboratory's shift.
"""

import functools
import importlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from botocore.client import BaseClient
from celery import signals

from app import clock
from app.celery import celery, nightly_tasks
from app.db import Clocks
from tests.faults.control import KILL_CHILD, KILL_WORKER, RAISE, Control
from tests.faults.points_named import AFTER, BEFORE, COMMITTED, ENQUEUED, FUNCTIONS, HALF_WAY

CONTROL = Control(Path(os.environ["FAULTS_CONTROL"]))
WORKER = os.environ["FAULTS_WORKER"]


class Interrupted(RuntimeError):
    """What the laboratory raises at a point: an error that nobody expects."""


def reach(point: str) -> None:
    """Do what is ordered at this point, if anything is."""
    order = CONTROL.claim(point)
    if order is not None:
        obey(order)


def obey(order: str) -> None:
    action, _, seconds = order.partition(" ")
    if action == KILL_WORKER:
        os.killpg(os.getpgrp(), signal.SIGKILL)
    elif action == KILL_CHILD:
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == RAISE:
        raise Interrupted("ordered by the laboratory")
    elif seconds:
        time.sleep(float(seconds))


def wrap(point: str, module: str, path: str, when: str) -> None:
    """Make the function reach the point. AttributeError if there is no such function any more."""
    owner: Any = importlib.import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    function = getattr(owner, name)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if when == BEFORE:
            reach(point)
        result = function(*args, **kwargs)
        if when == AFTER:
            reach(point)
        return result

    setattr(owner, name, wrapper)


def wrap_sending(send_wakes: Callable[[Iterable[Any]], None]) -> Callable[[Iterable[Any]], None]:
    """Before it the step is committed, after it the successors are sent; only where there are any."""

    @functools.wraps(send_wakes)
    def wrapper(wakes: Iterable[Any]) -> None:
        wakes = list(wakes)
        if wakes:
            reach(COMMITTED)
        send_wakes(wakes)
        if wakes:
            reach(ENQUEUED)

    return wrapper


def wrap_requests(call: Callable[..., Any]) -> Callable[..., Any]:
    """Half-way: S3 has deleted the first half of the files of a request when the order is obeyed."""

    @functools.wraps(call)
    def wrapper(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        order = CONTROL.claim(HALF_WAY) if operation == "DeleteObjects" else None
        if order is not None:
            files = parameters["Delete"]["Objects"]
            half = {**parameters, "Delete": {**parameters["Delete"], "Objects": files[: max(1, len(files) // 2)]}}
            call(client, operation, half)
            obey(order)
        return call(client, operation, parameters)

    return wrapper


def with_another_clock(read: Callable[..., Clocks]) -> Callable[..., Clocks]:
    """The database's clock has the shift, too: it is another day everywhere."""

    def wrapper(*arguments: Any) -> Clocks:
        clocks = read(*arguments)
        return replace(clocks, database=clocks.database + CONTROL.shift())

    return wrapper


def install() -> None:
    for point, module, path, when in FUNCTIONS:
        wrap(point, module, path, when)
    nightly_tasks.send_wakes = wrap_sending(nightly_tasks.send_wakes)
    BaseClient._make_api_call = wrap_requests(BaseClient._make_api_call)
    real_now = clock.now
    clock.now = lambda: real_now() + CONTROL.shift()
    transactions = importlib.import_module("app.db")  # of the package `app`, `db` is the database
    transactions.read_clocks = with_another_clock(transactions.read_clocks)
    if "visibility_timeout" in celery.conf.broker_transport_options:  # RabbitMQ has none
        celery.conf.broker_transport_options["visibility_timeout"] = float(os.environ["FAULTS_VISIBILITY_SECONDS"])


@signals.worker_ready.connect
def _say_ready(**_: Any) -> None:
    CONTROL.say_ready(WORKER)


install()
