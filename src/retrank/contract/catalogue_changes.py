"""Changes of the catalogue between two bundles: what callers send, what comes back."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from retrank.contract.api import RawId
from retrank.contract.filters import Attribute
from retrank.contract.rules import none_given, some_given, where
from retrank.contract.scalars import LongScalar

MAX_BULK = 1_000
MAX_ATTRIBUTES = 64
Attributes = Annotated[dict[Attribute, LongScalar | None], Field(max_length=MAX_ATTRIBUTES)]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ItemUpsert(_Message):
    """Body of `PUT /v1/items/{id}`: replaces every earlier change of the item; it is back when it was deleted.

    Attributes:
        attributes: replace those of the bundle by name; None takes one away.
        available: whether it may be shown.
    """

    attributes: Attributes = {}
    available: bool = True


class ItemPatch(_Message):
    """Body of `PATCH /v1/items/{id}`: changes what it names and leaves earlier changes standing."""

    model_config = ConfigDict(json_schema_extra=some_given("attributes", "available"))

    attributes: Attributes | None = None
    available: bool | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.attributes is None and self.available is None:
            raise ValueError("nothing to change; give attributes or available")
        return self


class Availability(_Message):
    """Body of `PUT /v1/items/{id}/availability`."""

    available: bool


class BulkItem(_Message):
    """One change of a bulk: `upsert` as in PUT, `patch` as in PATCH, `delete` as in DELETE."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                where("action", "upsert", {}),
                where("action", "patch", some_given("attributes", "available")),
                where("action", "delete", none_given("attributes", "available")),
            ]
        }
    )

    item_id: RawId
    action: Literal["upsert", "patch", "delete"]
    attributes: Attributes | None = None
    available: bool | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        nothing = self.attributes is None and self.available is None
        if self.action == "delete" and not nothing:
            raise ValueError("a deletion has neither attributes nor availability")
        if self.action == "patch" and nothing:
            raise ValueError("nothing to change; give attributes or available")
        return self


class BulkItems(_Message):
    """Body of `POST /v1/items:bulk`; taken as a whole or, when one change does not fit, not at all."""

    items: Annotated[list[BulkItem], Field(min_length=1, max_length=MAX_BULK)]


class CatalogueReceipt(_Message):
    """Changes are kept; every replica shows them within a second.

    Attributes:
        version: the catalogue's, grows with every change.
        changed: how many items.
        unknown: ids among them that the bundle does not know, the first 100: kept, and shown from the next bundle that
            has them.
        offered: ids among those that are shown already, as the model of the bundle reads what they are.
    """

    version: int
    changed: int
    unknown: list[str] = []
    offered: list[str] = []


class UserAsked(_Message):
    """Whom a call about what is kept of a user is about, where no path says so."""

    user_id: RawId


class Erased(_Message):
    """What was kept about somebody is gone: `entries` of it."""

    entries: int
