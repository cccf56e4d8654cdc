"""Let Ray Train start the training processes; a worker that dies is replaced and goes on from the last checkpoint.

Ray starts on this host without dashboard, with as many CPUs as there are workers, unless RAY_ADDRESS names a cluster.
Its own processes listen on every interface (seen with Ray 2.60): mind the firewall. All workers must see the run
folder, as on one host or a shared file system: rank 0 writes checkpoints, logs and the answer there.
"""

import json
import logging
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from retrank.contract import errors
from retrank.contract.errors import ConfigError, RetrankError, TrainingError
from retrank.training.launch.local import Work
from retrank.training.launch.place import Place

MAX_FAILURES = 2
_OBJECT_STORE_BYTES = 100 * 2**20  # batches never pass through it
_ANSWER = ".ray_answer.json"
_ERROR = "error"


def launch_on_ray(work: Work, processes: int, run_dir: Path, *, gpus: bool) -> dict[str, Any]:
    """Run `work` in that many Ray Train workers and return what rank 0 returns.

    Args:
        work: called with the place of the worker; must continue from the last checkpoint of the run if there is one.
        processes: how many workers, >= 1.
        run_dir: folder of the run.
        gpus: give each worker a GPU.

    Raises:
        ConfigError: Ray Train is not installed.
        RetrankError: that a worker raised.
        TrainingError: workers broke down more than `MAX_FAILURES` times.
    """
    try:
        import ray  # noqa: PLC0415  (seconds to import, and needed by this launcher alone)
        from ray.train import FailureConfig, RunConfig, ScalingConfig  # noqa: PLC0415
        from ray.train.torch import TorchConfig, TorchTrainer  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(f"trainer=ray: {error.msg}; run pip install 'retrank[ray]'") from error
    answer = run_dir.resolve() / _ANSWER
    answer.unlink(missing_ok=True)
    _connect(ray, processes, gpus=gpus)
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"work": work, "answer": str(answer)},
        scaling_config=ScalingConfig(num_workers=processes, use_gpu=gpus, resources_per_worker={"CPU": 1}),
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpus else "gloo"),
        run_config=RunConfig(
            name="ray", storage_path=str(run_dir.resolve()), failure_config=FailureConfig(max_failures=MAX_FAILURES)
        ),
    )
    try:
        trainer.fit()
    except RuntimeError as error:  # the base of what Ray Train raises when its patience is at an end
        if not answer.is_file():
            raise TrainingError(f"Ray Train gave up after {MAX_FAILURES} restarts: {error}") from error
    finally:
        ray.shutdown()
    return _read(answer)


def _connect(ray: Any, processes: int, *, gpus: bool) -> None:
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False)
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    start = partial(
        ray.init,
        address="local",
        num_cpus=processes + 1,  # one for Ray Train's own controller
        num_gpus=processes if gpus else 0,
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        logging_level=logging.ERROR,
        log_to_driver=False,  # what matters comes back as the answer or in the error; the rest is Ray on itself
    )
    try:
        start()
    except Exception as error:  # noqa: BLE001  (Ray raises a bare one when its processes take over half a minute)
        logging.getLogger(__name__).warning("Ray did not start (%s), trying once more", error)
        ray.shutdown()
        start()


def _worker(loop: Mapping[str, Any]) -> None:
    """Be a worker; Ray has connected the processes. Errors of ours are an answer: trying again would not mend them."""
    from ray import train  # noqa: PLC0415

    answer = Path(loop["answer"])
    if answer.is_file():  # Ray starts again after any error; this one is known
        return
    context = train.get_context()
    place = Place(context.get_world_rank(), context.get_world_size())
    try:
        content = loop["work"](place)
    except RetrankError as error:
        answer.write_text(json.dumps({_ERROR: [type(error).__name__, str(error)]}), encoding="utf-8")
        raise
    if place.rank == 0:
        answer.write_text(json.dumps(content), encoding="utf-8")


def _read(answer: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    answer.unlink()
    if _ERROR in content:
        kind, message = content[_ERROR]
        raise getattr(errors, kind, TrainingError)(message)
    return content
