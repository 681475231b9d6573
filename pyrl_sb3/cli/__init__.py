"""The command line: parse, then call what does the work."""

import gc
import signal
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `pyrl` and exit: 0 done, 2 for a mistake of the user's, 128 + n stopped by signal n."""
    try:
        from pyrl_sb3.cli.app import run
        from pyrl_sb3.training.orphans import stop_with_parent

        stop_with_parent()
        try:
            status = run(sys.argv[1:] if arguments is None else arguments)
        finally:
            # What is in use to the end would be searched for garbage several times as Python ends.
            gc.collect()
            gc.freeze()
    except KeyboardInterrupt:  # in the imports or at the end: `run` has an answer to it in commands
        sys.exit(128 + signal.SIGINT)
    sys.exit(status)
