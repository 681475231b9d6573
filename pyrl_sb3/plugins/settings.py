"""Which plugins to load, from environment variables: worker processes inherit those."""

import re
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass

LOAD = "PYRL_LOAD_PLUGINS"
DISABLE = "PYRL_DISABLE_PLUGINS"
MODULES = "PYRL_PLUGIN_MODULES"
STRICT = "PYRL_PLUGINS_STRICT"
TRACE = "PYRL_TRACE_PLUGINS"


def normalise(name: str) -> str:
    """The name as packaging compares it: lower case, one hyphen for any run of ``-_.``."""
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """
    The switches.

    :param load: Load only these (names of entry points or distributions); None for all installed.
    :param disable: Never import these.
    :param modules: Modules or ``.py`` files to load besides.
    :param strict: Raise at the first plugin that fails; None: only at one of `modules`.
    :param trace: Tell on stderr what is loaded and how long it takes.
    """

    load: frozenset[str] | None = None
    disable: frozenset[str] = frozenset()
    modules: tuple[str, ...] = ()
    strict: bool | None = None
    trace: bool = False

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Read ``PYRL_LOAD_PLUGINS`` (unset: all; empty: none), ``PYRL_DISABLE_PLUGINS``, ..."""
        return cls(
            load=frozenset(map(normalise, _words(environ[LOAD]))) if LOAD in environ else None,
            disable=frozenset(map(normalise, _words(environ.get(DISABLE, "")))),
            modules=tuple(_words(environ.get(MODULES, ""))),
            strict=environ[STRICT] != "0" if environ.get(STRICT) else None,
            trace=environ.get(TRACE, "") not in ("", "0"),
        )

    def wants(self, *names: str) -> bool:
        """Whether to load the plugin known under `names`."""
        known = set(map(normalise, names))
        return not known & self.disable and (self.load is None or bool(known & self.load))


def apply_options(
    environ: MutableMapping[str, str], *, no_plugins: bool = False, plugins: Iterable[str] = ()
) -> None:
    """
    Put the command line's ``--no-plugins`` and ``-p`` into `environ`.

    :param environ: Environment variables, such as ``os.environ``.
    :param no_plugins: Load none but those that are named.
    :param plugins: Each ``no:NAME`` (do not load it), or a module or ``.py`` file to load.
    """
    if no_plugins:
        environ[LOAD] = ""
    for plugin in plugins:
        variable = DISABLE if plugin.startswith("no:") else MODULES
        names = [*_words(environ.get(variable, "")), plugin.removeprefix("no:")]
        environ[variable] = ",".join(dict.fromkeys(names))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
