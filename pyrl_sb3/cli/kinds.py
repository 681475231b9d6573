"""Kinds of components, as the command line calls them."""

import difflib

from pyrl_sb3.plugins import UnknownComponentError

KINDS = {
    "noises": "noise",
    "buffers": "replay-buffer",
    "sync": "sync-callback",
    "callbacks": "callback",
    "policies": "policy",
    "extractors": "features-extractor",
    "algos": "algorithm",
    "envs": "environment",
    "wrappers": "env-wrapper",
    "engines": "engine",
}


def kind_of(word: str) -> str:
    """
    Return the kind in the registry, whose own word will do as well.

    Raises:
        UnknownComponentError: there is none.
    """
    if word in KINDS or word in KINDS.values():
        return KINDS.get(word, word)
    close = difflib.get_close_matches(word, KINDS, 1)
    meant = f" Did you mean {close[0]!r}?" if close else ""
    raise UnknownComponentError(
        f"unknown kind of component {word!r}; kinds: {', '.join(KINDS)}.{meant}"
    )


def begun(incomplete: str) -> list[str]:
    """Return the words that begin so."""
    return [word for word in KINDS if word.startswith(incomplete)]
