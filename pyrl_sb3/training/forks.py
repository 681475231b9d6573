"""Processes that are forks of one that has imported PyTorch and SB3: a tenth of the start-up."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from pyrl_sb3.training.errors import RunStoppedError


class ForkServer:
    """
    Starts `python -m pyrl_sb3 ARGUMENTS` as forks of one process; not on macOS and Windows.

    Each is in a session of its own, in the folder and with the variables that this process has when
    it is started. When this process is killed, they save and end.
    """

    def __init__(self) -> None:
        self._file = TemporaryFile("w+")  # noqa: SIM115  # closed by `close`
        self._server = subprocess.Popen(
            [sys.executable, "-m", "pyrl_sb3.cli.forked"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._file,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )

    def start(
        self, arguments: Sequence[str], log: Path, environment: dict[str, str]
    ) -> "ForkedProcess":
        """
        Start a process, from what a `Job` has and `Job.environment`; waits until all is imported.

        Raises:
            RunStoppedError: what forks the processes has ended.
        """
        pid = self.ask(
            "start",
            arguments=list(arguments),
            log=str(log),
            folder=os.getcwd(),
            environment={**os.environ, **environment},
        )
        return ForkedProcess(self, pid)

    def ask(self, request: str, **what: Any) -> Any:
        """Return the answer to a request; raises as `start`."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        with suppress(BrokenPipeError):
            self._server.stdin.write(json.dumps([request, what]) + "\n")
            self._server.stdin.flush()
        answer = self._server.stdout.readline()
        if not answer:
            self._file.seek(0)
            errors = self._file.read().strip().splitlines()
            said = "what starts the seeds has ended; those that run save and end"
            raise RunStoppedError(": ".join([said, *errors[-1:]]))
        return json.loads(answer)

    def close(self) -> None:
        """End the server; what it has started and still runs saves and ends."""
        self._server.kill()  # it holds nothing, and may still be importing
        self._server.communicate()
        self._file.close()


class ForkedProcess:
    """What a `ForkServer` started, as `Process` has it."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self._server, self.pid = server, pid
        self._code: int | None = None

    def poll(self) -> int | None:
        if self._code is None:
            self._code = self._server.ask("poll", pid=self.pid)
        return self._code

    def stop(self) -> None:
        if self._code is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGINT)
