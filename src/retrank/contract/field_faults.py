"""What a refused field of a document is told: what is expected, and what was seen where that gives nobody away.

Ids, queries and tokens are text, or a number by mistake, and a refusal travels further than the request: to dead
letters, to the log of the caller. So numbers are shown where a number was expected, words where one of a few was, and
of everything else only what it is.
"""

import re

from pydantic_core import ErrorDetails

from retrank.contract.errors import said_of

_SAID_ALREADY = frozenset({"missing", "extra_forbidden", "value_error", "json_invalid", "too_long", "too_short"})
_FEW_WORDS = frozenset({"literal_error", "enum"})
_NUMBERS = ("int_", "float_", "bool_", "greater_than", "less_than", "multiple_of", "finite_number")
_WORD = re.compile(r"(?=.*[a-z])[a-z0-9_-]{1,20}")
_NUMBER = re.compile(r"[+-]?\d{1,15}(\.\d{1,6})?")
_MOST = 10**15


def fault_of(error: ErrorDetails) -> str:
    """Return the message of one refused field, with the value seen.

    Args:
        error: of a `pydantic.ValidationError`, with its input. What our own validators say is left as it is: they know
            best what to show.
    """
    said = said_of(error["msg"])
    return said if error["type"] in _SAID_ALREADY else f"{said}, got {_shown(error['input'], error['type'])}"


def _shown(value: object, kind: str) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        huge = isinstance(value, int) and abs(value) >= _MOST
        return (repr(value) if not huge else "a larger one") if kind.startswith(_NUMBERS) else "a number"
    if isinstance(value, str):
        return _text(value, kind)
    return f"a list of {len(value):,}" if isinstance(value, list | tuple) else "an object"


def _text(value: str, kind: str) -> str:
    if kind in _FEW_WORDS and _WORD.fullmatch(value):
        return repr(value)
    if kind.startswith(_NUMBERS) and _NUMBER.fullmatch(value):  # a parameter of a query is always text
        return f"the text {value!r}"
    return f"text of length {len(value):,}"
