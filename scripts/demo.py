"""`make demo`: from the built-in shop to a slate over HTTP, reusing what is done and going on with what was begun.

Each step is a `retrank` command that anyone can type; this script only decides which of them are still needed.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

from retrank.config import compose, resolve
from retrank.contract.api import RecommendRequest, SlateResponse
from retrank.contract.attributes import AttributeArrays
from retrank.contract.bundle import ITEM_VOCAB, USER_VOCAB, describe
from retrank.contract.files import current
from retrank.contract.vocab import Vocab
from retrank.serving.ask import slate_table
from retrank.serving.attributes import ItemAttributes

EXPERIMENT = "online_retail_sasrec"
READY_TIMEOUT_S = 180.0
PATHS = resolve(compose("ingest"))["paths"]
STORE = Path(PATHS["stores"]) / "online_retail"
RUNS = Path(PATHS["runs"]) / EXPERIMENT
BUNDLE = Path(PATHS["bundles"]) / EXPERIMENT


def main() -> int:
    arguments = _arguments()
    started = time.monotonic()
    _say("1/4 ingest the built-in shop (Online Retail)")
    _retrank("ingest", "data=online_retail")
    wanted = _experiment(arguments.train)
    run_dir = _finished_run(wanted)
    if run_dir is None:
        begun = _begun_run(wanted)
        _say(f"2/4 go on with the run {begun}" if begun else "2/4 train and evaluate SASRec beside the baselines")
        _retrank("train", f"experiment={EXPERIMENT}", *arguments.train, *([f"ckpt={begun}"] if begun else []))
        run_dir = _finished_run(wanted)
        if run_dir is None:
            sys.exit(f"no finished run in {RUNS} after training")
    else:
        _say(f"2/4 reuse the trained run {run_dir}")
    print(f"    report: {run_dir / 'report.html'}")
    if _sealed_from() == run_dir.name:
        _say(f"3/4 reuse the bundle {BUNDLE}")
    else:
        _say("3/4 export to ONNX, index in FAISS, seal the bundle")
        _retrank("export", f"run={run_dir}", f"out={BUNDLE}")
    _say(f"4/4 serve on http://127.0.0.1:{arguments.port}")
    return _serve(arguments.port, started, once=arguments.once)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--once", action="store_true", help="stop after the first answer")
    parser.add_argument("train", nargs="*", help="overrides for the training step, such as trainer.max_epochs=1")
    return parser.parse_args()


def _say(text: str) -> None:
    print(f"\n\033[1m==> {text}\033[0m" if sys.stdout.isatty() else f"\n==> {text}", flush=True)


def _command(name: str, overrides: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "retrank.cli", name, *overrides]


def _retrank(name: str, *overrides: str) -> None:
    command = _command(name, overrides)
    print("    $ retrank", *command[3:], flush=True)
    done = subprocess.run(command, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def _experiment(overrides: Sequence[str]) -> dict[str, Any]:
    """Return what the training step would run with, its folder aside."""
    return _settings(resolve(compose("train", [f"experiment={EXPERIMENT}", *overrides])))


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in ("run_dir", "ckpt")}


def _finished_run(wanted: dict[str, Any]) -> Path | None:
    """Return the newest run of this experiment on the current data that got as far as its report."""
    data_hash = _data_hash()
    for run_dir in sorted(RUNS.glob("*"), reverse=True):
        card = run_dir / "run_card.json"
        finished = card.is_file() and (run_dir / "report.html").is_file()
        if not finished:
            continue
        facts = json.loads(card.read_text())
        if facts["data"]["data_hash"] == data_hash and _settings(facts["config"]) == wanted:
            return run_dir
    return None


def _begun_run(wanted: dict[str, Any]) -> Path | None:
    """Return the newest run of this experiment on the current data that was interrupted behind its first checkpoint."""
    for run_dir in sorted(RUNS.glob("*"), reverse=True):
        newest, config = run_dir / "checkpoints" / "last.ckpt", run_dir / "config.yaml"
        if not newest.is_file() or (run_dir / "report.html").is_file():
            continue
        from retrank.training.checkpoint import IDENTITY_KEY, read  # noqa: PLC0415  (torch, where it is needed)

        same_data = read(newest)[IDENTITY_KEY]["data_hash"] == _data_hash()
        if same_data and _settings(yaml.safe_load(config.read_text())) == wanted:
            return run_dir
    return None


def _data_hash() -> str:
    return str(json.loads((current(STORE) / "store.json").read_text())["data_hash"])


def _sealed_from() -> str | None:
    """Return the run the current bundle was exported from."""
    if not BUNDLE.is_dir():
        return None
    manifest = current(BUNDLE) / "manifest.json"
    return str(json.loads(manifest.read_text())["run_id"]).rpartition("/")[2] if manifest.is_file() else None


def _serve(port: int, started: float, *, once: bool) -> int:
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)  # whatever ends this script ends the service as well
    service = subprocess.Popen(
        _command("serve", [f"bundle={BUNDLE}", f"serving.port={port}", "serving.admin.enabled=false"]),
        start_new_session=True,
    )
    try:
        _wait_until_ready(service, port)
        _answer(port)
        print(f"\n    first answer after {(time.monotonic() - started) / 60:.1f} minutes")
        print(f"    page: http://127.0.0.1:{port}/    API: http://127.0.0.1:{port}/openapi.json")
        if not once:
            print("    Ctrl-C stops the service", flush=True)
            return service.wait()
    except KeyboardInterrupt:
        print("\n    stopping", flush=True)
    finally:
        _stop(service)
    return 0


def _wait_until_ready(service: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if service.poll() is not None:
            sys.exit(f"the service stopped with status {service.returncode}")
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2.0).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    sys.exit(f"the service was not ready within {READY_TIMEOUT_S:.0f} s")


def _answer(port: int) -> None:
    bundle = current(BUNDLE)
    user_id = Vocab.open(bundle, USER_VOCAB).id(1)
    request = RecommendRequest(user_id=user_id, k=10)
    body = request.model_dump_json(exclude_defaults=True)
    print(f"\n    $ curl -s http://127.0.0.1:{port}/v1/recommend -H 'content-type: application/json' -d '{body}'\n")
    answer = httpx.post(
        f"http://127.0.0.1:{port}/v1/recommend", content=body, headers={"content-type": "application/json"}
    )
    answer.raise_for_status()
    print(slate_table(SlateResponse.model_validate_json(answer.content), titles=_titles(bundle)), flush=True)


def _titles(bundle: Path) -> dict[str, str]:
    items, (_, manifest) = Vocab.open(bundle, ITEM_VOCAB), describe(bundle)
    return ItemAttributes(items, AttributeArrays.open(bundle, manifest.item_columns, len(items))).titles()


def _stop(service: subprocess.Popen[bytes]) -> None:
    if service.poll() is None:
        service.terminate()  # not SIGINT, which a process started in the background ignores
        try:
            service.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(service.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
