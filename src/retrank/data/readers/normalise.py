"""From columns as a source has them to the record batch that ingest wants, refusing rows that cannot be understood."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat
from numpy.typing import NDArray

from retrank.contract.actions import UNNAMED
from retrank.contract.api import MAX_ID_LENGTH
from retrank.contract.context import as_text
from retrank.contract.errors import SourceError
from retrank.data.readers.columns import Columns
from retrank.data.readers.protocol import ACTION, ACTION_NAME, CONTEXT_PREFIX, ITEM, TIME, USER, VALUE, VISITOR
from retrank.data.readers.times import to_microseconds
from retrank.data.report import RowReport

_SHOWN_CHARACTERS = 80
_NUMBER = r"^\s*-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"


def normalise(
    raw: Mapping[str, pa.Array], columns: Columns, where: Callable[[int], str], report: RowReport
) -> pa.RecordBatch:
    """Return the rows of one batch that are events.

    Args:
        raw: role -> column of n values, as read; nulls and empty text are missing values.
        columns: time unit, number columns and unwanted actions of the mapping.
        where: returns "file:line" of a row (0-based in this batch), called for examples only.
        report: told about all n rows.

    Raises:
        SourceError: a column has a type that cannot play its role.
    """
    report.read(len(raw[USER]))
    raw, where = _wanted(_named(raw), columns.leave_out_actions, where, report)
    refused = Refusals(len(raw[USER]), where, report)
    ready = _who_and_what(raw, columns, where, refused)
    for role, column in raw.items():
        plain = told_in(column)
        if role in ready:
            continue
        if role == TIME:
            with located(where):
                ready[role] = to_microseconds(plain, columns.time_unit)
            named, unit = columns.named(TIME), columns.time_unit
            refused.add(f"missing {named}", pc.is_null(plain), plain)
            refused.add(f"{named} unparsable as {unit}, or outside 1970..2100", pc.is_null(ready[role]), plain)
        elif columns.is_number(role):
            with located(where):
                ready[role] = as_numbers(plain, role)
            refused.add(
                f"{columns.named(role)} is not a number", pc.and_(pc.is_valid(plain), pc.is_null(ready[role])), plain
            )
            if role == VALUE:
                ready[role] = ready[role].fill_null(np.nan).cast(pa.float32())
        else:
            with located(where):
                ready[role] = as_words(plain) if role == ACTION or role.startswith(CONTEXT_PREFIX) else plain
    batch = pa.record_batch(ready)
    return batch if refused.none else batch.filter(pa.array(refused.good))


def _who_and_what(
    raw: Mapping[str, pa.Array], columns: Columns, where: Callable[[int], str], refused: "Refusals"
) -> dict[str, pa.Array]:
    """Return the columns of ids; rows of nobody, and without an item, are refused."""
    ready = {role: _ids(told_in(raw[role]), role, where) for role in (USER, VISITOR, ITEM) if role in raw}
    nobody, named = pc.is_null(ready[USER]), columns.named(USER)
    if VISITOR in ready:
        nobody, named = pc.and_(nobody, pc.is_null(ready[VISITOR])), f"{named} and {columns.named(VISITOR)}"
    refused.add(f"missing {named}", nobody, raw[USER])
    refused.add(f"missing {columns.named(ITEM)}", pc.is_null(ready[ITEM]), raw[ITEM])
    for role in (USER, ITEM):
        long = too_long(ready[role])
        reason = f"{columns.named(role)} is longer than {MAX_ID_LENGTH} characters, no request could name it"
        refused.add(reason, long, ready[role])
    return ready


def too_long(ids: pa.Array) -> pa.Array:
    """Tell of each id whether it has more characters than a request may name; of a missing one it does not."""
    if pat.is_integer(ids.type):
        return pa.repeat(False, len(ids))
    return pc.fill_null(pc.greater(pc.utf8_length(ids), MAX_ID_LENGTH), False)


def _named(raw: Mapping[str, pa.Array]) -> Mapping[str, pa.Array]:
    """Put the words of actions in `ACTION`; `ACTION_NAME` keeps what a custom action was before it got its own name."""
    if ACTION_NAME not in raw:
        return raw
    done, names = as_words(told_in(raw[ACTION])), as_words(told_in(raw[ACTION_NAME]))
    own = pc.and_(pc.equal(done, UNNAMED), pc.is_valid(names)).fill_null(False)
    return {**raw, ACTION: pc.if_else(own, names, done), ACTION_NAME: done}


def _wanted(
    raw: Mapping[str, pa.Array], unwanted: Sequence[str], where: Callable[[int], str], report: RowReport
) -> tuple[Mapping[str, pa.Array], Callable[[int], str]]:
    """Leave out the rows with unwanted actions, each action counted by its name; return the rest, and its places.

    Custom actions can be left out under their own name, and all of them as `custom`.
    """
    kinds = raw.get(ACTION_NAME)
    raw = {role: column for role, column in raw.items() if role != ACTION_NAME}
    if not unwanted:
        return raw, where
    done = as_words(told_in(raw[ACTION]))
    left = np.ones(len(done), dtype=bool)
    for action in dict.fromkeys(unwanted):
        hit = left & _is(done, action)
        if kinds is not None:
            hit |= left & _is(kinds, action)
        report.leave_out(f"action {action}", int(hit.sum()))
        left &= ~hit
    kept = np.flatnonzero(left)
    rest = {role: column.take(pa.array(kept)) for role, column in raw.items()}
    return rest, lambda row: where(int(kept[row]) if len(kept) else 0)


def _is(words: pa.Array, word: str) -> NDArray[np.bool_]:
    return np.asarray(pc.equal(words, word).fill_null(False), dtype=bool)


def told_in(column: pa.Array) -> pa.Array:
    """Return a column without its dictionary, in which an empty text is no value: null."""
    plain = column.dictionary_decode() if pat.is_dictionary(column.type) else column
    if not (pat.is_string(plain.type) or pat.is_large_string(plain.type)):
        return plain
    return pc.if_else(pc.equal(plain, ""), pa.scalar(None, plain.type), plain)


@contextmanager
def located(where: Callable[[int], str]) -> Iterator[None]:
    """Put the place of the batch in front of an error about a whole column."""
    try:
        yield
    except SourceError as error:
        raise SourceError(f"{where(0)}: {error}") from error


class Refusals:
    """Which rows of a batch are bad; a row is counted under the first reason only."""

    def __init__(self, rows: int, where: Callable[[int], str], report: RowReport) -> None:
        """Start with `rows` good ones; `where` returns "file:line" of a row, 0-based."""
        self.good: NDArray[np.bool_] = np.ones(rows, dtype=bool)
        self.none = True
        self._where = where
        self._report = report

    def add(self, reason: str, bad: pa.Array, column: pa.Array) -> None:
        """Count the rows where `bad` is true, with values of `column` as examples."""
        if not pc.any(bad).as_py():
            return
        self.none = False
        rows = np.flatnonzero(np.asarray(bad) & self.good)
        examples = (f"{self._where(int(row))}: {_shown(column[int(row)].as_py())}" for row in rows)
        self._report.refuse(reason, len(rows), examples)
        self.good[rows] = False


def _shown(cell: object) -> str:
    """Return a cell as an example; of a long text the beginning, and how long it is."""
    if isinstance(cell, str) and len(cell) > _SHOWN_CHARACTERS:
        return f"{cell[:_SHOWN_CHARACTERS]!r}... ({len(cell):,} characters)"
    return repr(cell)


def _ids(column: pa.Array, role: str, where: Callable[[int], str]) -> pa.Array:
    """Return integers or text; never by way of a float, which cannot hold every 64-bit id."""
    if pat.is_integer(column.type):
        return column
    if pat.is_string(column.type) or pat.is_large_string(column.type):
        return column
    hint = "a float cannot hold every 64-bit id; " if pat.is_floating(column.type) else ""
    raise SourceError(f"{where(0)}: {role} holds {column.type}; {hint}store it as integer or text")


def as_numbers(column: pa.Array, role: str) -> pa.Array:
    """Return float64; null where the value is missing or not a number.

    Raises:
        SourceError: the column has a type that cannot hold numbers.
    """
    if pat.is_string(column.type) or pat.is_large_string(column.type):
        numeric = pc.if_else(pc.match_substring_regex(column, _NUMBER), column, pa.scalar(None, column.type))
        return pc.utf8_trim_whitespace(numeric).cast(pa.float64())
    try:
        return column.cast(pa.float64(), safe=False)
    except pa.ArrowInvalid as error:
        raise SourceError(f"column for {role} holds {column.type}, which is not a number; {error}") from error


def as_words(column: pa.Array) -> pa.Array:
    """Return text, null where nothing is told: an empty text, or what is no number.

    Numbers with a fraction are written as those of a request are (`as_text`), each distinct one once; float32 by the
    fewest digits that tell it apart, as people write it.

    Raises:
        SourceError: the column has a type that has no text, such as a list.
    """
    if pat.is_floating(column.type) or pat.is_decimal(column.type):
        encoded = column.dictionary_encode()
        numbers = encoded.dictionary.cast(pa.string() if pat.is_float32(column.type) else pa.float64()).to_pylist()
        words = [as_text(float(number)) if isfinite(float(number)) else None for number in numbers]
        return pa.array(words, pa.string()).take(encoded.indices)
    try:
        return told_in(column.cast(pa.string()))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SourceError(f"a column of words holds {column.type}, which has no text; {error}") from error
