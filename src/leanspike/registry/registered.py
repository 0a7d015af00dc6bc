"""A registry: the parts of one kind by name, with those of other packages."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, ClassVar, Generic, TypeVar, final

from pydantic import Field, ValidationError, model_validator

from leanspike.errors import LeanspikeError, one_line
from leanspike.registry.options import validated, values_of
from leanspike.registry.wrong_name import nearest
from leanspike.section import Section, section_of

T = TypeVar("T")
Kind = TypeVar("Kind", bound=Callable[..., Any])


@final
class Registry(Generic[T]):
    """The classes of one kind of part, by name, or the functions that make such a part.

    Args:
        noun: the word for a part in messages.
        group: the group of the entry points by which other packages add parts.
        config: a function from a class to its options. Without it the options are its
            constructor's (`section_of`), and the constructor checks their values.
        base: the base class of all parts. Without it a part may be anything that can be called.
        table: parts that are already there, by name. It is shared, not copied.

    >>> pools: Registry[object] = Registry("pool", "example.pools")
    >>> @pools.register("max")
    ... class Max:
    ...     def __init__(self, size: int = 2) -> None:
    ...         self.size = size
    >>> pools.create("max", {"size": 3}).size
    3
    >>> pools.find("maxx")
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: pool is 'maxx'; choose one of max; did you mean 'max'?
    """

    def __init__(
        self,
        noun: str,
        group: str,
        config: Callable[[Any], type[Section]] | None = None,
        base: type | None = None,
        table: dict[str, Callable[..., T]] | None = None,
    ) -> None:
        self.noun, self.group, self._config, self._base = noun, group, config, base
        self._kinds: dict[str, Callable[..., T]] = {} if table is None else table

    def register(self, name: str) -> Callable[[Kind], Kind]:
        """Return a decorator that registers a class under a name.

        The decorator raises LeanspikeError for a name that another class has.
        """

        def put(kind: Kind) -> Kind:
            self._put(name, kind)
            return kind

        return put

    def register_rows(self, table: Mapping[str, T]) -> None:
        """Register the parts of a table, which have no options.

        Raises LeanspikeError for a name that another part has.
        """
        for name in table:
            self._put(name, Row(table, name))

    def unregister(self, name: str) -> None:
        """Remove a class, as a test does with its own.

        Raises LeanspikeError for a name that no class has.
        """
        if name not in self._kinds:
            raise LeanspikeError(f"{self.noun} is {name!r}; {nearest(name, self._kinds)}")
        del self._kinds[name]

    def _put(self, name: str, kind: Callable[..., T]) -> None:
        other = self._kinds.get(name, kind)
        if other is not kind:
            raise LeanspikeError(
                f"{self.noun} {name!r} is already {_path(other)}; register {_path(kind)} under "
                "another name"
            )
        self._kinds[name] = kind

    @property
    def registered(self) -> Mapping[str, Callable[..., T]]:
        """The parts registered so far, by name."""
        return MappingProxyType(self._kinds)

    def names(self) -> tuple[str, ...]:
        """Return all names. Parts of other packages are included, but not imported."""
        return tuple(dict.fromkeys((*self._kinds, *self._offered())))

    def __contains__(self, name: object) -> bool:
        """Return whether a part has that name. Parts of other packages are not imported."""
        return name in self._kinds or name in self._offered()

    def find(self, name: str, also: Collection[str] = ()) -> Callable[..., T]:
        """Return the class or the function of that name.

        Raises LeanspikeError for an unknown name, with the nearest one. ``also`` holds further
        names that are valid there.
        """
        if name not in self._kinds and name in (offered := self._offered()):
            self._import(name, offered[name])
        if name not in self._kinds:
            valid = [*also, *self.names()]
            raise LeanspikeError(f"{self.noun} is {name!r}; {nearest(name, valid)}")
        return self._kinds[name]

    def name_of(self, kind: type) -> str | None:
        """Return the name under which a class is registered, or None."""
        return next((name for name, known in self._kinds.items() if known is kind), None)

    def config(self, name: str) -> type[Section]:
        """Return the section of options of the class of that name."""
        return (self._config or section_of)(self.find(name))

    def options(self, name: str, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return these options as the constructor takes them; with a ``Config``, all its fields.

        Raises LeanspikeError for an option that it does not have, or a value that its ``Config``
        does not take.
        """
        config = self.config(name)
        given = given or {}
        for option in given:
            if option not in config.model_fields:
                valid = ", ".join(config.model_fields)
                have = f"valid are {valid}" if valid else "it has none"
                raise LeanspikeError(f"{self.noun} {name} has no option {option!r}; {have}")
        if self._config is None:
            return dict(given)
        try:
            section = validated(config, given)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            message = first["msg"].removeprefix("Value error, ")
            raise LeanspikeError(
                f"{self.noun} {name}: {place} is {first['input']!r}: {message}"
            ) from None
        return values_of(section)

    def create(self, name: str, given: Mapping[str, Any] | None = None, *arguments: Any) -> T:
        """Return a new part of that name with these options, after positional ``arguments``.

        Raises LeanspikeError as :meth:`options` does, and for values that the constructor refuses.
        """
        options = {
            option: value.create() if isinstance(value, ChosenPart) else value
            for option, value in self.options(name, given).items()
        }
        try:
            return self.find(name)(*arguments, **options)
        except TypeError as error:
            raise LeanspikeError(f"{self.noun} {name}: {error}") from None

    def _offered(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}

    def _import(self, name: str, point: EntryPoint) -> None:
        package = point.dist.name if point.dist else point.value
        whose = f"{self.noun} {name!r} of the package {package}"
        try:
            kind = point.load()
        except Exception as error:  # another package's code may raise anything
            raise LeanspikeError(
                f"{whose} cannot be imported ({one_line(error)}); mend or remove the package"
            ) from error
        base = self._base
        if base is not None and not (isinstance(kind, type) and issubclass(kind, base)):
            raise LeanspikeError(
                f"{whose} is {kind!r}, but not a subclass of {_path(base)}; mend or remove the "
                "package"
            )
        if not callable(kind):
            raise LeanspikeError(
                f"{whose} is a {type(kind).__name__}, which cannot be called; mend or remove the "
                "package"
            )
        self._put(name, kind)


@final
@dataclass(frozen=True, eq=False)
class Row(Generic[T]):
    """A part in a table. A call, without options, returns the table's present entry.

    >>> Row({"small": 1}, "small")()
    1
    """

    table: Mapping[str, T]
    name: str

    def __call__(self) -> T:
        """Return the part."""
        return self.table[self.name]


class ChosenPart(Section):
    """A part that an option names: ``{name: arctan, options: {alpha: 2.0}}``.

    >>> pools: Registry[object] = Registry("pool", "example.pools", table={"mean": list})
    >>> class Pool(ChosenPart):
    ...     registry = pools
    >>> Pool(name="mean").create()
    []
    """

    registry: ClassVar[Registry[Any]]

    name: str
    options: dict[str, Any] = Field({})

    @model_validator(mode="after")
    def _exists(self) -> ChosenPart:
        try:
            self.create()
        except LeanspikeError as error:
            raise ValueError(str(error)) from None
        return self

    def create(self) -> Any:
        """Return a new part."""
        return self.registry.create(self.name, self.options)


def _path(kind: object) -> str:
    """Return the full name of a class or function, or the text of anything else."""
    name = getattr(kind, "__qualname__", None)
    return repr(kind) if name is None else f"{kind.__module__}.{name}"
