"""Start training processes on this host and bring back what the first one returns, or what went wrong."""

import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
import torch.distributed

from retrank.contract import errors
from retrank.contract.errors import RetrankError, TrainingError
from retrank.training.launch.place import Place

Work = Callable[[Place], dict[str, Any]]
_LOOPBACK = "lo"


class Signalled(Exception):  # noqa: N818  (nothing is wrong)
    """A signal asked this process, and so its workers, to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Failure(NamedTuple):
    """An error of a worker in words that survive the way to another process."""

    kind: str
    message: str


class _Worker(NamedTuple):
    process: Any  # multiprocessing has a class per start method and no common public one
    answers: Connection


def launch(work: Work, processes: int) -> dict[str, Any]:
    """Run `work` in that many processes, connected by gloo over the loopback interface; return what rank 0 returns.

    When one fails or a signal comes, the others are killed: their last checkpoint is whole, whatever they were doing.

    Args:
        work: called with the place of the process; must be picklable.
        processes: how many, >= 2.

    Raises:
        RetrankError: that a worker raised.
        TrainingError: a worker broke down without saying why.
        Signalled: SIGINT or SIGTERM arrived here.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="retrank-") as folder:
        workers: list[_Worker] = []
        try:
            with _signals_raise():
                for rank in range(processes):
                    answers, sender = context.Pipe(duplex=False)
                    arguments = (work, Place(rank, processes), Path(folder) / "rendezvous", sender)
                    process = context.Process(target=_run, args=arguments, daemon=True)
                    process.start()
                    sender.close()
                    workers.append(_Worker(process, answers))
                return _first_answer(workers)
        finally:
            for worker in workers:
                worker.process.kill()
                worker.process.join()


def _run(work: Work, place: Place, rendezvous: Path, answers: Connection) -> None:
    """Be a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the parent decides
    os.environ["GLOO_SOCKET_IFNAME"] = _LOOPBACK
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    torch.distributed.init_process_group(
        backend, init_method=f"file://{rendezvous}", rank=place.rank, world_size=place.world_size
    )
    try:
        answer: dict[str, Any] | _Failure = work(place)
    except RetrankError as error:
        answer = _Failure(type(error).__name__, str(error))
    answers.send(answer)
    if not isinstance(answer, _Failure):
        torch.distributed.destroy_process_group()


def _first_answer(workers: list[_Worker]) -> dict[str, Any]:
    """Wait until all have answered or one has failed."""
    waiting = {worker.answers: rank for rank, worker in enumerate(workers)}
    answers: dict[int, dict[str, Any]] = {}
    while waiting:
        for connection in wait(list(waiting)):
            assert isinstance(connection, Connection)
            rank = waiting.pop(connection)
            answers[rank] = _received(connection, workers[rank], rank, len(workers))
    for worker in workers:
        worker.process.join()
    return answers[0]


def _received(connection: Connection, worker: _Worker, rank: int, of: int) -> dict[str, Any]:
    """Return the answer of one worker.

    Raises:
        RetrankError: as the worker raised it.
        TrainingError: it ended without an answer.
    """
    try:
        answer = connection.recv()
    except EOFError as error:
        worker.process.join()
        code = worker.process.exitcode
        ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        memory = "; the system may have run out of memory: lower batches.batch_size or trainer.processes" * (code == -9)
        raise TrainingError(f"training process {rank} of {of} {ended}, its error is above{memory}") from error
    if isinstance(answer, _Failure):
        raise getattr(errors, answer.kind, TrainingError)(answer.message)
    assert isinstance(answer, dict)
    return answer


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into `Signalled`; only the main thread may."""

    def stop(number: int, _: FrameType | None) -> None:
        raise Signalled(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            with suppress(TypeError):  # a handler that Python did not install cannot be put back by it
                signal.signal(number, handler)
