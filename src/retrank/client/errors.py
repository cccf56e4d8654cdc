"""What can go wrong with a call.

ClientError
├── CallRefused    the service understood and said no; asking again would not help
├── CallFailed     no usable answer within the deadline, or the breaker is open
└── ClientClosed   the client was closed before the call, or during it
"""

from retrank.client.answers import Refusal
from retrank.contract.errors import RetrankError


class ClientError(RetrankError):
    """Base of every deliberate error of the client."""


class CallRefused(ClientError):  # noqa: N818  (an answer, not a mistake of this code)
    """The service refused the call.

    Attributes:
        status: HTTP status, 400..499.
        refusal: the problem document; empty fields where the answer was not one.
    """

    def __init__(self, status: int, refusal: Refusal) -> None:
        """Say what was refused and why."""
        self.status, self.refusal = status, refusal
        super().__init__(
            f"the service refused the call with {status} {refusal.code or refusal.title}: {refusal.detail}"
        )


class CallFailed(ClientError):  # noqa: N818  (a state, not a mistake of this code)
    """No usable answer came; `__cause__` is what kept it from coming, where that is known.

    Attributes:
        attempts: how often the call was sent; 0 when the breaker was open, 1 when its last answer could not be read.
        status: HTTP status of the last answer; None when there was none.
    """

    def __init__(self, message: str, *, attempts: int, status: int | None = None) -> None:
        """Say what was tried and what came of it."""
        super().__init__(message)
        self.attempts, self.status = attempts, status


class ClientClosed(ClientError):  # noqa: N818  (a state, not a mistake of this code)
    """A client that was closed was asked to call; nothing was sent, or its answer was not waited for."""

    def __init__(self) -> None:
        """Say what to do."""
        super().__init__(
            "this client is closed and calls nobody; call inside its `with` block, before `close()`, or make another"
        )
