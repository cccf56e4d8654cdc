"""Which fields of the moment a model reads, learned from a store: their vocabularies, and their rows of every event."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from retrank.contract.context import (
    CLOCK,
    MAX_CONTEXT_FIELDS,
    MAX_NAME,
    MAX_VALUES,
    ContextField,
    ContextRows,
    ContextSpec,
)
from retrank.contract.errors import ConfigError
from retrank.data.store import EventStore


@dataclass(frozen=True)
class ContextSettings:
    """The configuration group `context`.

    Vocabularies are counted over all events of the store: which values exist says nothing of what anybody did, and a
    value without training events keeps the vector it begins with, which is that of unknown.

    Attributes:
        fields: names of context columns of the store that hold text, of attributes of its users, and `hour` and
            `weekday` of the clock; the first of the three that has a name is meant.
        time_zone: in which the clock is read, a name of the IANA database.
        min_events: events below which a value counts as unknown, >= 1.
        max_values: most values of a field, the commonest; others count as unknown.
    """

    fields: Sequence[str] = ()
    time_zone: str = "UTC"
    min_events: int = 20
    max_values: int = 1_000

    def __post_init__(self) -> None:
        """Refuse settings out of range.

        Raises:
            ConfigError: naming the key.
        """
        if self.min_events < 1 or not 1 <= self.max_values <= MAX_VALUES:
            raise ConfigError(
                f"context.min_events is {self.min_events} and context.max_values {self.max_values}; expected at least "
                f"1, and 1..{MAX_VALUES}"
            )
        wrong = [name for name in self.fields if not 1 <= len(name) <= MAX_NAME]
        if isinstance(self.fields, str) or wrong:
            raise ConfigError(
                f"context.fields is {self.fields!r}; expected a list of names of 1 to {MAX_NAME} letters, "
                "such as [channel]"
            )
        if len(set(self.fields)) < len(self.fields) or len(self.fields) > MAX_CONTEXT_FIELDS:
            raise ConfigError(
                f"context.fields is {list(self.fields)}; expected at most {MAX_CONTEXT_FIELDS} different names"
            )

    def fit(self, store: EventStore) -> ContextSpec:
        """Return the fields with the values they may have.

        Raises:
            ConfigError: the store has no such field, it holds numbers, none of its values is frequent enough, or the
                clock is asked and there are no times.
        """
        spec = ContextSpec(fields=tuple(self._field(name, store) for name in self.fields), time_zone=self.time_zone)
        return ContextRows(spec).spec

    def _field(self, name: str, store: EventStore) -> ContextField:
        columns, attributes = sorted(store.facts.context), store.user_table.column_names[1:]
        if name in columns:
            return ContextField(name=name, values=self._common(name, *_of_events(name, store)))
        if name in attributes:
            return ContextField(name=name, told_by="user", values=self._common(name, *_of_users(name, store)))
        if name not in CLOCK:
            raise ConfigError(
                f"context.fields names {name!r}; the store has the context columns {columns} and the user attributes "
                f"{attributes}, the clock tells {', '.join(CLOCK)}"
            )
        if store.sequences.times is None:
            raise ConfigError(f"context.fields names {name!r}, which the clock tells, and the events have no times")
        return ContextField(name=name, told_by="clock", values=CLOCK[name])

    def _common(self, name: str, texts: Sequence[str], codes: NDArray[np.integer]) -> tuple[str, ...]:
        """Return the texts that enough of `[E]` codes (-1 = missing) stand for, the commonest first."""
        counts = np.bincount(codes + 1, minlength=len(texts) + 1)[1:].tolist()
        common = sorted((-count, text) for count, text in zip(counts, texts, strict=True) if count >= self.min_events)
        if not common:
            raise ConfigError(
                f"context.fields names {name!r}, which {sum(counts):,} of {len(codes):,} events tell, and none of its "
                f"{len(texts):,} values has {self.min_events} of them; leave it out, check the column it was read "
                "from, or lower context.min_events"
            )
        return tuple(text for _, text in common[: self.max_values])


def in_context(store: EventStore, settings: ContextSettings) -> EventStore:
    """Return the store with what is known of the moment of each event; the same store without fields.

    Raises:
        ConfigError: see `ContextSettings.fit`.
    """
    if not settings.fields:
        return store
    spec = settings.fit(store)
    return replace(store, sequences=replace(store.sequences, contexts=_rows(store, spec)), context_spec=spec)


def _rows(store: EventStore, spec: ContextSpec) -> NDArray[np.int32]:
    """Return `[E, F]` rows of all events."""
    rows = ContextRows(spec)
    found = np.zeros((store.facts.num_events, len(spec.fields)), dtype=np.int32)
    for column, field in enumerate(spec.fields):
        if field.told_by == "clock":
            assert store.sequences.times is not None, "refused without times"
            found[:, column] = rows.of_times(field.name, store.sequences.times)
        else:
            told = _of_users if field.told_by == "user" else _of_events
            texts, codes = told(field.name, store)
            found[:, column] = np.concatenate([[0], rows.of_texts(field.name, texts)])[codes + 1]
    return found


def _of_events(name: str, store: EventStore) -> tuple[Sequence[str], NDArray[np.integer]]:
    """Return the texts of a context column, and `[E]` which of them each event has; -1 = missing."""
    if store.facts.context[name] != "category":
        raise ConfigError(f"context.fields names {name!r}, which holds numbers; leave it out of data.columns.numbers")
    return store.context_names(name), store.context(name)


def _of_users(name: str, store: EventStore) -> tuple[Sequence[str], NDArray[np.integer]]:
    """Return the texts of an attribute of users, and `[E]` which of them the user of each event has; -1 = missing."""
    told = store.user_table.column(name).combine_chunks().dictionary_encode()
    codes = told.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    return told.dictionary.to_pylist(), np.repeat(codes, store.sequences.lengths)
