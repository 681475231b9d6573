"""Kinds of components, as the command line calls them."""

from pyrl_sb3.plugins.lookup import unknown_kind

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
    raise unknown_kind(word, KINDS)


def begun(incomplete: str) -> list[str]:
    """Return the words that begin so."""
    return [word for word in KINDS if word.startswith(incomplete)]
