"""Logs that can be kept: one JSON object per line if wanted, and never a secret."""

import json
import logging
import re
from collections.abc import Iterable
from datetime import UTC, datetime

_SECRETS = re.compile(r"(retrank_[0-9a-f]{12}_)[A-Za-z0-9_-]+|((?:Bearer|Basic) )[^\s\"',}]+", re.IGNORECASE)
_HIDDEN = r"\1\2***"


class Redacting(logging.Formatter):
    """Formats like another formatter and hides API keys and authorization headers, in tracebacks, too."""

    def __init__(self, inner: logging.Formatter) -> None:
        """Wrap a formatter."""
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without secrets."""
        return _SECRETS.sub(_HIDDEN, self._inner.format(record))


class JsonLines(logging.Formatter):
    """One JSON object per record: `time` (UTC), `level`, `logger`, `message`, and `error` with its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def unbuffered(handlers: Iterable[logging.Handler]) -> list[logging.Handler]:
    """Return the handlers behind buffers: Ray Serve keeps a thousand lines back until an error, or loses them."""
    return [getattr(handler, "target", None) or handler for handler in handlers]


def set_up(handlers: Iterable[logging.Handler], *, as_json: bool) -> None:
    """Make handlers write lines without secrets, as JSON if wanted."""
    for handler in handlers:
        inner = JsonLines() if as_json else handler.formatter or logging.Formatter()
        if isinstance(inner, Redacting):
            continue
        handler.setFormatter(Redacting(inner))
