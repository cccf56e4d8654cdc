"""Label values with a bound, so that no caller can make the number of time series grow."""

OTHER = "other"


class Capped:
    """The first values seen are themselves, later ones are `other`."""

    def __init__(self, most: int = 50, *, length: int = 64) -> None:
        """Start empty; `length` cuts long values."""
        self._most = most
        self._length = length
        self._known: dict[str, str] = {}

    def __call__(self, value: str) -> str:
        """Return the label for a value."""
        known = self._known.get(value)
        if known is not None:
            return known
        if len(self._known) >= self._most:
            return OTHER
        label = value[: self._length]
        self._known[value] = label
        return label
