"""What a word of `retrank ctl` may be: the types of its arguments, so that a wrong one is named before it is sent."""

import json
import math
from argparse import ArgumentTypeError
from typing import Any

_SHOWN = 50


def number(text: str) -> float:
    """Return a number, not "nan" and not "inf", of which JSON knows nothing."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ArgumentTypeError(f"{text[:_SHOWN]!r} is not a finite number")
    return value


def percent(text: str) -> float:
    """Return a number of 0..100."""
    value = number(text)
    if not 0 <= value <= 100:
        raise ArgumentTypeError(f"{text[:_SHOWN]!r} is not in 0..100")
    return value


def seconds(text: str) -> float:
    """Return a number that is not negative."""
    value = number(text)
    if value < 0:
        raise ArgumentTypeError(f"{text[:_SHOWN]!r} is negative")
    return value


def json_text(text: str) -> Any:
    """Return what a JSON text says, as strict about numbers as the standard is: Python would take NaN and 1e999."""
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise ArgumentTypeError(f"{text[:_SHOWN]!r} is not JSON ({error})") from error
    return value
