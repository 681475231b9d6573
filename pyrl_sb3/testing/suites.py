"""The checks as pytest classes: subclass, set `ref`, and each check is a test of its own."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest

from pyrl_sb3.plugins import ReplayBufferSpec, get_plugin_manager
from pyrl_sb3.testing.buffer_case import BufferCase, buffer_cases
from pyrl_sb3.testing.noise import NOISE_CHECKS, NoiseCase
from pyrl_sb3.testing.replay_buffers import BUFFER_CHECKS
from pyrl_sb3.testing.sync import SYNC_CHECKS, SyncCase


class NoiseSuite:
    """
    ``class TestPink(NoiseSuite): ref = "colored-noise/pink"``.

    `params` are the parameters to check it with.
    """

    ref: ClassVar[str]
    params: ClassVar[Mapping[str, Any]] = {}

    @pytest.mark.parametrize("check", NOISE_CHECKS)
    def test_noise(self, check: Callable[[NoiseCase], None]) -> None:
        """One check."""
        check(NoiseCase(ref=self.ref, params=self.params))


class ReplayBufferSuite:
    """
    ``class TestPrioritized(ReplayBufferSuite): ref = "prioritized-replay/prioritized"``.

    `params` are the parameters to check it with.
    """

    ref: ClassVar[str]
    params: ClassVar[Mapping[str, Any]] = {}

    @pytest.mark.parametrize("check", BUFFER_CHECKS)
    def test_replay_buffer(self, check: Callable[[BufferCase], None]) -> None:
        """One check, in one and in three environments."""
        manager = get_plugin_manager()
        spec = manager.find("replay-buffer", self.ref).spec
        assert isinstance(spec, ReplayBufferSpec)
        params = manager.check_params("replay-buffer", self.ref, self.params)
        cls = manager.load("replay-buffer", self.ref)
        kinds, needs = spec.observation_kinds, spec.needs
        for case in buffer_cases(cls, params, observation_kinds=kinds, needs=needs):
            check(case)


class SyncCallbackSuite:
    """
    ``class TestPopulation(SyncCallbackSuite): ref = "population-sync/population"``.

    `params` are the parameters to check it with.
    """

    ref: ClassVar[str]
    params: ClassVar[Mapping[str, Any]] = {}

    @pytest.mark.parametrize("check", SYNC_CHECKS)
    def test_sync_callback(self, check: Callable[[SyncCase], None]) -> None:
        """One check."""
        check(SyncCase(ref=self.ref, params=self.params))
