"""A section of a recipe that names a part and holds its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    ValidatorFunctionWrapHandler,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from leanspike.errors import LeanspikeError
from leanspike.registry.options import validated, values_of
from leanspike.registry.registered import Registry


class ChosenSection(BaseModel):
    """A part with its options beside its name: ``{name: lif, leak: 0.9}``, or its name alone.

    It holds all options of the part, defaults included, as attributes and in :attr:`options`.

    >>> from leanspike.section import Section
    >>> class Pool(Section):
    ...     size: int = 2
    >>> pools: Registry[object] = Registry("pool", "example.pools", lambda _: Pool)
    >>> _ = pools.register("mean")(list)
    >>> class Pooling(ChosenSection):
    ...     registry = pools
    ...     name: str = "mean"
    >>> Pooling.model_validate({"name": "mean", "size": 3}).options
    {'size': 3}
    >>> Pooling.model_validate("mean").options
    {'size': 2}
    """

    model_config = ConfigDict(
        defer_build=True, frozen=True, extra="allow", strict=True, protected_namespaces=()
    )
    registry: ClassVar[Registry[Any]]

    name: str

    @model_validator(mode="wrap")
    @classmethod
    def _complete(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, Mapping):
            return handler(value)
        given = dict(value)
        name = given.pop("name", cls.model_fields["name"].default)
        if not isinstance(name, str):
            return handler(value)
        try:
            config = cls.registry.config(name)
        except LeanspikeError as error:
            raise ValueError(str(error)) from None
        return handler({"name": name, **values_of(validated(config, given))})

    @property
    def options(self) -> dict[str, Any]:
        """The options of the part, without its name."""
        return {
            key: value.model_dump() if isinstance(value, BaseModel) else value
            for key, value in (self.model_extra or {}).items()
        }

    @classmethod
    def keys(cls, value: Any) -> list[str]:
        """Return the keys that are valid in such a section, for the name that it has."""
        return ["name", *cls.registry.config(cls.named(value)).model_fields]

    @classmethod
    def named(cls, value: Any) -> str:
        """Return the part that plain data name, or the usual one where they name none."""
        name = value.get("name") if isinstance(value, Mapping) else None
        return str(name or cls.model_fields["name"].default)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Return a schema of any registered part, each with its own options."""
        usual = cls.model_fields["name"].default
        names = sorted(cls.registry.registered, key=lambda name: name != usual)
        configs = [cls.registry.config(name).__pydantic_core_schema__ for name in names]
        found = handler(core_schema.union_schema(list(configs)))
        for name, choice in zip(names, found["anyOf"], strict=True):
            section = handler.resolve_ref_schema(choice)
            named = {"const": name, "type": "string", "default": name, "description": "Its name."}
            section["properties"] = {"name": named, **section["properties"]}
        return found
