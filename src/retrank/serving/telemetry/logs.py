"""Logs that can be kept: one JSON object per line if wanted, and never a secret."""

import json
import logging
import re
from collections.abc import Iterable
from contextvars import ContextVar
from datetime import UTC, datetime

_SECRETS = re.compile(r"(retrank_[0-9a-f]{12}_)[A-Za-z0-9_-]+|((?:Bearer|Basic) )[^\s\"',}]+", re.IGNORECASE)
_HIDDEN = r"\1\2***"
_OF_OTHERS = ("uvicorn", "asyncio", "py.warnings")
answering: ContextVar[str | None] = ContextVar("answering", default=None)
"""Id of the request that is being answered; None outside of one."""


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
    """One JSON object per record: `ts` (UTC), `level`, `logger`, `message`; `request_id` where one is being answered,
    and `error` with its traceback.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "ts": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        request_id = answering.get() or getattr(record, "request_id", None)  # Ray Serve names those it passes on
        if request_id:
            line["request_id"] = str(request_id)
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


def adopt(handlers: list[logging.Handler]) -> None:
    """Let handlers write what this package and the libraries around it log, once each."""
    for name in ("retrank", *_OF_OTHERS):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = list(handlers), False


def json_to_stderr() -> None:
    """Write everything that this process logs to standard error as JSON lines: for the process that starts others."""
    handler = logging.StreamHandler()
    set_up([handler], as_json=True)
    adopt([handler])
    logging.getLogger().handlers = [handler]


def announce(text: str, *, as_json: bool) -> None:
    """Tell whoever started a service how it stands, on standard output: a line for people, or one for machines."""
    record = logging.LogRecord("retrank.serving", logging.INFO, "", 0, text, None, None)
    print(JsonLines().format(record) if as_json else text, flush=True)
