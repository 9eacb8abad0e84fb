"""Names to things: losses, schedules, sources."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from imgkit.errors import UsageError, suggestion

Thing = TypeVar("Thing")


class Registry(Generic[Thing]):
    """Things by name, added by a decorator; a typo is answered with the nearest name.

    Args:
        kind: what the things are, in the singular, for messages ("loss").
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._things: dict[str, Thing] = {}

    def register(self, name: str) -> Callable[[Thing], Thing]:
        """Decorator that adds the decorated thing under `name`.

        Raises:
            UsageError: if the name is taken.
        """

        def add(thing: Thing) -> Thing:
            if name in self._things:
                raise UsageError(f"there are two {self.kind} definitions called {name!r}", "Rename one of them.")
            self._things[name] = thing
            return thing

        return add

    def remove(self, name: str) -> None:
        """Take out a name that is there."""
        del self._things[name]

    def __getitem__(self, name: str) -> Thing:
        try:
            return self._things[name]
        except KeyError:
            raise UsageError(
                f"unknown {self.kind} {name!r}{suggestion(name, self._things)}",
                f"Known: {', '.join(sorted(self._things))}.",
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self._things

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._things))
