"""How are several values written? Lists to allow and block, and lists of one without brackets."""

from typing import Annotated, Any, Generic, TypeVar

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from bidder.yamlfiles import Expected, ListOf, Model

T = TypeVar("T")


class Lists(Model, Generic[T]):
    """``[FR, BE]`` allows these; ``{allow: [...], block: [...]}`` allows and blocks."""

    allow: ListOf[T] = ()
    block: ListOf[T] = ()

    @model_validator(mode="before")
    @classmethod
    def _plain_list_allows(cls, written: Any) -> Any:
        if not isinstance(written, list | dict):
            raise Expected("a list to allow, or {allow: [...], block: [...]}")
        return {"allow": written} if isinstance(written, list) else written

    @model_validator(mode="after")
    def _says_something(self) -> "Lists[T]":
        if not self.allow and not self.block:
            raise ValueError("an empty list allows nothing; leave it out to allow any")
        return self

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        both = handler.resolve_ref_schema(handler(core))
        return {"anyOf": [both["properties"]["allow"], both]}


def _listed(written: Any) -> Any:
    return written if isinstance(written, list) else [written]


class _OrOne:
    """Tells the JSON Schema of a list that one item may stand for a list of it."""

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        several = handler(core)
        return {"anyOf": [several["items"], several]}


OneOrMore = Annotated[ListOf[T], BeforeValidator(_listed), Field(min_length=1), _OrOne()]
"""``mobile`` or ``[mobile, tablet]``."""
