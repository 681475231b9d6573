"""`python -m pyrl_sb3`: the same commands as `pyrl`."""

from pyrl_sb3.cli import main

main()
