"""Threads, devices, noise."""

import numpy as np
import pytest
import torch as th

from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.models import action_noise, check_device, set_threads


@pytest.fixture
def threads():
    before = th.get_num_threads()
    yield
    th.set_num_threads(before)


@pytest.mark.parametrize(("cores", "expected"), [(1, 1), (2, 2), (64, 4)])
def test_threads_follow_the_cores(monkeypatch, threads, cores, expected):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert set_threads(None) == th.get_num_threads() == expected


def test_threads_asked_for(monkeypatch, threads):
    th.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert set_threads(None) == 1  # what PyTorch made of the variable
    assert set_threads(3) == th.get_num_threads() == 3


def test_devices():
    assert (check_device("auto"), check_device("cpu")) == ("auto", "cpu")
    with pytest.raises(InputError, match="no device 'cpuu'; there are auto, cpu"):
        check_device("cpuu")


def test_noise_has_the_spread_of_the_entry():
    np.random.seed(0)  # SB3's noise draws from numpy's global state
    noise = action_noise("normal", 0.2, 4)
    assert np.std([noise() for _ in range(5000)]) == pytest.approx(0.2, rel=0.05)
    with pytest.raises(InputError, match="no noise 'norml'; did you mean normal"):
        action_noise("norml", 0.2, 4)
