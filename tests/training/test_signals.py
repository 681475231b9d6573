"""Signals that come once, twice, and twice within a moment."""

import os
import signal
import subprocess
import sys
import time

import pytest

from pyrl_sb3.training import orphans, signals
from pyrl_sb3.training.signals import EndAskedError, StopSignals, ending_in_order


@pytest.fixture
def clock(monkeypatch):
    """Time stands still, but for what is added to it."""
    now = [100.0]
    monkeypatch.setattr(signals, "monotonic", lambda: now[0])
    return now


@pytest.fixture(autouse=True)
def handled():
    """Signals are as in a command that nothing has changed yet, and the tests' own afterwards."""
    here = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in here.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


ENDS = pytest.mark.parametrize(
    ("number", "error"),
    [
        (signal.SIGINT, KeyboardInterrupt),
        (signal.SIGTERM, EndAskedError),
    ],
    ids=["SIGINT", "SIGTERM"],
)


@ENDS
def test_the_same_signal_again_ends_at_once_and_within_a_second_is_one(clock, number, error):
    with ending_in_order(), StopSignals() as stop:
        for later in (0, 0.5, 0.4):
            clock[0] += later
            signal.raise_signal(number)
        assert stop.received == number
        clock[0] += 0.2
        with pytest.raises(error):
            signal.raise_signal(number)


@pytest.mark.parametrize(
    ("number", "orphaned"), [(signal.SIGHUP, False), (signal.SIGINT, True), (signal.SIGTERM, True)]
)
def test_a_terminal_or_a_parent_that_is_gone_asks_for_no_end_at_once(
    clock, monkeypatch, number, orphaned
):
    monkeypatch.setattr(orphans, "orphaned", orphaned)
    with ending_in_order(), StopSignals() as stop:
        for _ in range(3):
            clock[0] += 60
            signal.raise_signal(number)
            assert stop.received == number


def forked(do, *signals):
    """Exit code of a fork of this process that does something, and gets signals meanwhile."""
    ready, begun = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(begun, b".")  # what comes before that is lost
            do()
        finally:  # whatever it raises: it is no second run of the tests
            os._exit(7)
    os.read(ready, 1)
    os.close(ready)
    os.close(begun)
    for number in signals:
        os.kill(child, number)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def forks(test):
    for mark in (
        pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no forks"),
        pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    ):
        test = mark(test)
    return test


@forks
@pytest.mark.parametrize("ended_by", [signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
@pytest.mark.parametrize("within", [ending_in_order, StopSignals])
def test_forks_end_as_other_processes_do(within, ended_by, capfd):
    with within():
        assert forked(lambda: time.sleep(20), ended_by) == -ended_by
    assert capfd.readouterr() == ("", "")


@forks
def test_forks_end_by_the_handler_that_a_script_has():
    previous = signal.signal(signal.SIGTERM, lambda number, frame: os._exit(3))
    try:
        with ending_in_order(), StopSignals():
            assert forked(lambda: signal.raise_signal(signal.SIGTERM)) == 3
    finally:
        signal.signal(signal.SIGTERM, previous)


@forks
def test_forks_go_on_after_a_handler_that_returns_and_are_not_to_stop():
    seen = []
    signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    with StopSignals() as stop:

        def heard():
            signal.raise_signal(signal.SIGTERM)
            os._exit(3 if seen and stop.received is None else 4)

        assert forked(heard) == 3


def test_one_that_ends_at_once_has_the_exit_code_of_its_signal(clock):
    def asked_twice():
        with ending_in_order(), StopSignals():
            signal.raise_signal(signal.SIGTERM)
            clock[0] += 60
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit) as ended:
        asked_twice()
    assert ended.value.code == 128 + signal.SIGTERM


def test_another_signal_after_it_is_heard_as_well(clock):
    """A terminal is closed after Ctrl-C, perhaps, while what was learned is being saved."""
    with ending_in_order(), StopSignals() as stop:
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            clock[0] += 60
            signal.raise_signal(number)
            assert stop.received == number


def test_the_handler_that_was_there_before_gets_the_second(clock):
    seen = []
    signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    with StopSignals():
        signal.raise_signal(signal.SIGTERM)
        clock[0] += 60
        assert seen == []
        signal.raise_signal(signal.SIGTERM)
    assert seen == [signal.SIGTERM]


@pytest.mark.parametrize("before", [signal.SIG_DFL, signal.SIG_IGN])
def test_where_there_was_no_handler_the_second_does_what_the_system_does(
    clock, monkeypatch, before
):
    sent = []
    signal.signal(signal.SIGINT, before)
    monkeypatch.setattr(os, "kill", lambda *to: sent.append((*to, signal.getsignal(to[1]))))
    with StopSignals():
        signal.raise_signal(signal.SIGINT)
        clock[0] += 60
        signal.raise_signal(signal.SIGINT)
    assert sent == [(os.getpid(), signal.SIGINT, signal.SIG_DFL)]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_is_told_once_that_the_signal_was_heard(capfd, monkeypatch, terminal):
    monkeypatch.setattr(os, "isatty", lambda descriptor: terminal)
    with StopSignals():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    said = "\nstopping after this step, and saving; once more ends at once\n"
    assert capfd.readouterr().err == (said if terminal else "")


ORPHAN = """
import signal, time
from pyrl_sb3.training import orphans
signal.signal(signal.SIGTERM, lambda *_: print("heard", flush=True))
orphans._POLL, orphans._WAIT = 0.05, 1.0
orphans.stop_with_parent()
while True:
    time.sleep(60)
"""
PARENT = """
import os, subprocess, sys
from pyrl_sb3.training.orphans import bound_to_this_process
words = [sys.executable, "-c", sys.argv[1]]
subprocess.Popen(words, env={**os.environ, **bound_to_this_process()})
"""


LOADING = """
import os, signal, sys, time
from pyrl_sb3.training import orphans
signal.signal(signal.SIGTERM, lambda *_: os._exit(3 if "torch" in sys.modules else 0))
os.environ[orphans._STARTED_BY] = str(os.getpid())  # that is not its parent
orphans.stop_with_parent()
time.sleep(60)
"""


def test_what_watches_for_the_end_of_a_parent_imports_nothing():
    """Two threads that import the same at a time may wait for each other."""
    assert subprocess.run([sys.executable, "-c", LOADING], timeout=60).returncode == 0


def test_a_process_whose_parent_has_gone_ends_though_its_step_does_not():
    """It hears SIGTERM first; what it prints to is closed when it has ended."""
    words = [sys.executable, "-c", PARENT, ORPHAN]
    assert subprocess.run(words, stdout=subprocess.PIPE, timeout=60).stdout == b"heard\n"
