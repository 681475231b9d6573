"""Needs a module that is not there."""

import module_nobody_has  # noqa: F401
