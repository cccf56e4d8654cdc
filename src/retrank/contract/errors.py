"""Every error retrank raises on purpose.

A message says what is wrong, the value seen, the value expected and what to do next. The command line prints the
message alone and exits with `exit_code`; a programming error keeps its traceback.

    RetrankError
    ├── ConfigError          a setting is missing, unknown or out of range
    ├── DataError            input data cannot be used
    │   ├── SourceError      a file is missing, unreadable, truncated or of the wrong format
    │   └── BadRowsError     more rows were rejected than the configured share allows
    ├── DownloadError        a remote file could not be fetched or is not the one expected
    ├── TrainingError        a run diverged or cannot be resumed
    │   └── InterruptedRun   a signal ended a run; its last checkpoint is kept
    ├── BundleError          a bundle cannot be written or opened
    │   ├── ChecksumError    a file of the bundle is not the one that was sealed
    │   ├── FormatError      the bundle was written by an incompatible version
    │   └── GateError        a quality gate refused the bundle
    └── RequestError         a request asked on the command line is not valid
"""


class RetrankError(Exception):
    """Base of every deliberate error; the message is meant for the person at the keyboard."""

    exit_code = 2


class ConfigError(RetrankError):
    """A setting is missing, unknown or out of range."""


class DataError(RetrankError):
    """Input data cannot be used."""


class SourceError(DataError):
    """A source file is missing, unreadable, truncated or of the wrong format."""


class BadRowsError(DataError):
    """More rows were rejected than the configured share allows."""


class DownloadError(RetrankError):
    """A remote file could not be fetched or is not the one expected."""


class TrainingError(RetrankError):
    """A run diverged or cannot be resumed."""


class InterruptedRun(TrainingError):  # noqa: N818  (nothing is wrong)
    """A signal ended a run; `exit_code` is 128 + the number of the signal, as in a shell.

    Args:
        what: what happened.
        signal_number: of the signal.
        onward: how to go on; "" = not said yet.
    """

    def __init__(self, what: str, signal_number: int, onward: str = "") -> None:
        super().__init__(f"{what}; {onward}" if onward else what)
        self.what, self.signal_number = what, signal_number
        self.exit_code = 128 + signal_number


class BundleError(RetrankError):
    """A bundle cannot be written or opened."""


class ChecksumError(BundleError):
    """A file of the bundle is not the one that was sealed."""


class FormatError(BundleError):
    """The bundle was written by an incompatible version of retrank."""


class GateError(BundleError):
    """A quality gate refused to seal the bundle."""


class RequestError(RetrankError):
    """A request is not valid; `pointer` names the offending field as a JSON pointer."""

    def __init__(self, message: str, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer


def said_of(message: str) -> str:
    """Return what a message of pydantic says of a value, without the name that it gives our own validators."""
    return message.removeprefix("Value error, ")
