"""Lengths of time in microseconds, the unit of the moments of events: `Sequences.times`, the event log, profiles."""

SECOND_US = 1_000_000
HOUR_US = 3_600 * SECOND_US
DAY_US = 86_400 * SECOND_US
