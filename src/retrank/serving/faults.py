"""Why a request was not answered, in terms that no protocol owns; REST and gRPC translate."""

import logging
from collections.abc import Sequence

from pydantic import ValidationError

from retrank.contract.api import FieldProblem
from retrank.contract.errors import RetrankError
from retrank.contract.events import EventReceipt
from retrank.contract.field_faults import fault_of
from retrank.serving.events.protocol import LogUnavailable
from retrank.serving.stores.protocol import StoreUnavailable

MAX_FIELD_PROBLEMS = 20
_AWAY: dict[type[Exception], str] = {
    StoreUnavailable: "the state store does not answer; nothing was promised, ask again",
    LogUnavailable: "the event log takes nothing at the moment; nothing was promised, send it again",
}
_log = logging.getLogger(__name__)


class NotOffered(RetrankError):  # noqa: N818  (a state, not a mistake)
    """This service was started without what the request needs."""


class AllRejected(RetrankError):  # noqa: N818  (an answer, not a mistake of this code)
    """Not one event of a batch could be taken. `receipt` says why, `fields` point at the first of them."""

    def __init__(self, receipt: EventReceipt) -> None:
        """Say so."""
        rejected = receipt.rejected
        self.receipt = receipt
        self.fields = [
            FieldProblem(pointer=f"/events/{one.index}", detail=one.detail) for one in rejected[:MAX_FIELD_PROBLEMS]
        ]
        super().__init__(f"no event was taken: {summary(self.fields, len(rejected))}")


def some_taken(receipt: EventReceipt) -> EventReceipt:
    """Return a receipt that counts something as taken, now or before.

    Raises:
        AllRejected: it does not; answered like a success, a sender that gets every event wrong would never hear of it.
    """
    if receipt.accepted or receipt.duplicates:
        return receipt
    raise AllRejected(receipt)


def outside(error: Exception) -> str:
    """Return what a caller may know of an error; paths and the words of a database go to the log instead."""
    for kind, text in _AWAY.items():
        if isinstance(error, kind):
            _log.warning("a request was refused: %s", error)
            return text
    return str(error)


def fields_of(error: ValidationError) -> list[FieldProblem]:
    """Name each offending field of a refused document by a JSON pointer (RFC 6901), the first twenty."""
    found = error.errors(include_url=False, include_context=False)[:MAX_FIELD_PROBLEMS]
    return [FieldProblem(pointer=pointer(one["loc"]), detail=fault_of(one)) for one in found]


def summary(fields: Sequence[FieldProblem], total: int) -> str:
    """Return offending fields in one sentence."""
    named = "; ".join(f"{field.pointer or 'the body'}: {field.detail}" for field in fields[:3])
    return f"{named} and {total - 3} more" if total > 3 else named


def pointer(location: Sequence[str | int]) -> str:
    """Return a path into a document as a JSON pointer."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)
