"""What a refused field of a document is told: what is expected, and what was seen where that gives nobody away.

Ids, queries and tokens are text, and a refusal travels further than the request: to dead letters, to the log of the
caller. So of text only the length is said, unless it was to be one of few words.
"""

from pydantic_core import ErrorDetails

from retrank.contract.errors import said_of

_SAID_ALREADY = frozenset({"missing", "extra_forbidden", "value_error", "json_invalid"})
_FEW_WORDS = frozenset({"literal_error", "enum"})
_MOST_SHOWN = 40
_MOST_DIGITS = 15


def fault_of(error: ErrorDetails) -> str:
    """Return the message of one refused field, with the value seen.

    Args:
        error: of a `pydantic.ValidationError`, with its input. What our own validators say is left as it is: they know
            best what to show.
    """
    said = said_of(error["msg"])
    return said if error["type"] in _SAID_ALREADY else f"{said}, got {_shown(error['input'], error['type'])}"


def _shown(value: object, kind: str) -> str:
    if isinstance(value, str):
        return _cut(repr(value[: _MOST_SHOWN + 1])) if kind in _FEW_WORDS else f"text of {len(value):,} characters"
    if isinstance(value, list | tuple):
        return f"a list of {len(value):,}"
    if value is None or isinstance(value, bool):
        return str(value).lower() if value is not None else "null"
    if isinstance(value, int | float):
        return _digits(value)
    return "an object" if isinstance(value, dict) else f"a {type(value).__name__}"


def _digits(value: float) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if abs(value) < 10**_MOST_DIGITS else "a number of many digits"


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
