"""Parts by name: one registry for each kind of part, open to other packages.

A class registers itself where it is written. An installed package adds parts by entry points, in a
group named after the registry::

    [project.entry-points."leanspike.backends"]
    resonate = "its_package.resonate:Resonate"

Such a part is imported when its name is asked for, and not before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Generic, TypeVar, final

from leanspike.errors import LeanspikeError

T = TypeVar("T")
Kind = TypeVar("Kind", bound=type)


@final
class Registry(Generic[T]):
    """The classes of one kind of part, by name.

    Args:
        noun: what a message calls one of them.
        group: of the entry points by which other packages add theirs.

    >>> pools: Registry[object] = Registry("pool", "example.pools")
    >>> @pools.register("max")
    ... class Max:
    ...     pass
    >>> pools.find("max") is Max
    True
    >>> pools.find("maxx")
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: pool is 'maxx'; choose one of max; did you mean 'max'?
    >>> pools.unregister("max")
    >>> pools.names()
    ()
    """

    def __init__(self, noun: str, group: str) -> None:
        self.noun, self.group = noun, group
        self._kinds: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[Kind], Kind]:
        """A decorator that puts a class in.

        Raises LeanspikeError for a name that another class has.
        """

        def put(kind: Kind) -> Kind:
            self._put(name, kind)
            return kind

        return put

    def unregister(self, name: str) -> None:
        """Take a class out again, as a test does with its own.

        Raises LeanspikeError for a name that no class has.
        """
        if name not in self._kinds:
            raise LeanspikeError(f"{self.noun} is {name!r}; {nearest(name, self._kinds)}")
        del self._kinds[name]

    def _put(self, name: str, kind: type[T]) -> None:
        other = self._kinds.get(name, kind)
        if other is not kind:
            raise LeanspikeError(
                f"{self.noun} {name!r} is {other.__module__}.{other.__qualname__} already; "
                f"register {kind.__module__}.{kind.__qualname__} under another name"
            )
        self._kinds[name] = kind

    @property
    def registered(self) -> Mapping[str, type[T]]:
        """The classes that have registered so far, by name."""
        return MappingProxyType(self._kinds)

    def names(self) -> tuple[str, ...]:
        """All names, those of other packages too, which are not imported for that."""
        return tuple(dict.fromkeys((*self._kinds, *self._offered())))

    def find(self, name: str, also: Collection[str] = ()) -> type[T]:
        """The class of that name.

        Raises LeanspikeError for an unknown one, with the nearest; ``also`` are further names that
        are valid where this one stands.
        """
        if name not in self._kinds and name in (offered := self._offered()):
            self._import(name, offered[name])
        if name not in self._kinds:
            valid = [*also, *self.names()]
            raise LeanspikeError(f"{self.noun} is {name!r}; {nearest(name, valid)}")
        return self._kinds[name]

    def name_of(self, kind: type) -> str | None:
        """Under which name a class is registered; None if it is not."""
        return next((name for name, known in self._kinds.items() if known is kind), None)

    def _offered(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}

    def _import(self, name: str, point: EntryPoint) -> None:
        try:
            kind = point.load()
        except (ImportError, AttributeError) as error:
            package = point.dist.name if point.dist else point.value
            raise LeanspikeError(
                f"{self.noun} {name!r} of the package {package} cannot be imported ({error}); "
                "mend or remove the package"
            ) from error
        self._put(name, kind)


def nearest(wrong: str, valid: Collection[str]) -> str:
    """What to choose instead of a name that is none.

    >>> nearest("xyz", ("direct", "frames")), nearest("lfi", ("lif", "cuba_lif"))
    ('choose one of direct, frames', "choose one of lif, cuba_lif; did you mean 'lif'?")
    """
    close = get_close_matches(wrong, list(valid), n=1)
    meant = f"; did you mean {close[0]!r}?" if close else ""
    return f"choose one of {', '.join(valid)}{meant}"
