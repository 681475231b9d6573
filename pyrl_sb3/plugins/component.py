"""What all kinds of components have in common."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pyrl_sb3.plugins import fields

Target = str | Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Component:
    """
    A named component.

    :param name: Lower-case words joined by hyphens; unique within the plugin and kind.
    :param target: ``"package.module:Attribute"``, imported on first use (preferred), or the object.
    :param summary: One line for ``pyrl list``.
    :param aliases: Further names.
    :param defaults: Parameters passed to the target unless the user sets them.
    :param deprecated: Shown as a warning on use: what to use instead.
    :param install_hint: Shown when the target cannot be imported, e.g. ``pip install x[extra]``.
    :raises ValueError: for a field that holds something else than it should, in one line.
    """

    kind: ClassVar[str] = ""
    hook: ClassVar[str] = ""
    # How many leading arguments, and which keywords, the library passes itself.
    leading: ClassVar[int] = 0
    supplied: ClassVar[frozenset[str]] = frozenset()

    name: str
    target: Target
    summary: str = ""
    aliases: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    deprecated: str | None = None
    install_hint: str | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without importing the target."""
        try:
            self._check()
        except ValueError as error:
            raise ValueError(f"{self.kind} {self.name!r}: {error}") from None

    def _check(self) -> None:
        fields.check_names(self.name, self.aliases)
        fields.check_target(self.target)
        fields.check_line("summary", self.summary)
        fields.check_keywords("defaults", self.defaults)
        for name in ("deprecated", "install_hint"):
            if getattr(self, name) is not None:
                fields.check_line(name, getattr(self, name))

    @property
    def names(self) -> tuple[str, ...]:
        """The name and its aliases."""
        return (self.name, *self.aliases)
