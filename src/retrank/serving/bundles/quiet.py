"""Work that leaves the processor to those who answer: a thread of its own that the kernel runs last.

Only for work that holds the interpreter's lock for moments, such as hashing large blocks. A thread that runs last and
holds it would make everybody wait as long as it waits itself.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

_LAST = 19
Found = TypeVar("Found")


def quietly(act: Callable[[], Found]) -> Found:
    """Do something at the lowest priority, wait for it, and return what it returned, or raise what it raised."""
    done: Future[Found] = Future()

    def run() -> None:
        with suppress(OSError):  # a system that has no priorities of threads
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LAST)
        try:
            done.set_result(act())
        except BaseException as error:  # noqa: BLE001  (whatever it is, the caller hears of it)
            done.set_exception(error)

    threading.Thread(target=run, name="quiet", daemon=True).start()
    return done.result()
