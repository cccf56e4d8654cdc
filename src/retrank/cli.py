"""The `retrank` command: one word per act, Hydra overrides behind it.

    retrank ingest data=online_retail
    retrank train experiment=online_retail_sasrec
    retrank sweep experiment=online_retail_sasrec sweep.trials=20
    retrank evaluate run=runs/online_retail_sasrec/2026-01-31_12-00-00
    retrank ensemble runs=[RUN,RUN]
    retrank compare RUN RUN
    retrank export run=RUN
    retrank serve bundle=bundles/online_retail_sasrec
    retrank recommend bundle=bundles/online_retail_sasrec user_id=17850 k=5
    retrank events compact directory=events
    retrank keys create FILE --tenant shop --scopes read,ingest
    retrank ctl status

`--config-dir DIR` adds a folder of your own to the search path, laid out like `configs/` (data/shop.yaml, ...).
Only the command that runs is imported, so `retrank serve` never loads torch.
"""

import errno
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from retrank import __version__
from retrank.contract.errors import ConfigError, RetrankError


class _Command(NamedTuple):
    target: str
    summary: str
    composes: bool = False  # takes the overrides and composes settings itself, once per trial
    acts: bool = False  # its first word says what to do and becomes the setting `act`


_COMMANDS = {
    "ingest": _Command("retrank.data.ingest:run", "turn a table of events into a columnar store"),
    "train": _Command("retrank.training.fit:run", "train, evaluate and report (--multirun sweeps)"),
    "rank": _Command("retrank.training.ranking.fit:run", "train a ranker on the candidates of a trained run"),
    "sweep": _Command("retrank.training.sweep:main", "search settings by validation NDCG@10", composes=True),
    "evaluate": _Command("retrank.training.evaluate:run", "evaluate a run or the baselines"),
    "ensemble": _Command("retrank.training.ensemble:run", "evaluate several runs as one, weights from validation"),
    "export": _Command("retrank.export.assemble:run", "seal a trained run as a bundle"),
    "serve": _Command("retrank.serving.launch:run", "serve a bundle over HTTP with Ray Serve"),
    "admin": _Command("retrank.serving.admin:run", "serve the admin routes beside `serve run` or a cluster"),
    "recommend": _Command("retrank.serving.ask:run", "answer one request in this process, without a server"),
    "events": _Command("retrank.serving.events.jobs:run", "compact | replay | status of an event log", acts=True),
}
_PLAIN = {  # words and flags, no settings to compose
    "compare": _Command("retrank.training.compare:main", "compare two runs with a paired bootstrap"),
    "keys": _Command("retrank.serving.guard.keys_command:main", "create, list and revoke API keys"),
    "ctl": _Command(
        "retrank.serving.ctl:main",
        "operate a running service: status, stage, activate, canary, rollback, rules, placements, forget-changes",
    ),
}
_MULTIRUN = "retrank.training.multirun:report"
_CONFIG_DIR = "--config-dir"
_INTERRUPTED = 130
_UNREAD = 141  # as for a program that SIGPIPE ends
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    name, *rest = [*(sys.argv[1:] if arguments is None else arguments)] or ["--help"]
    try:
        status = _dispatch(name, rest)
        sys.stdout.flush()  # here, where a reader that is gone can still be told from a mistake
        return status
    except RetrankError as error:
        sys.stdout.flush()  # so that the error stands last, where both go to one place
        print(f"retrank {name}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"retrank {name}: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except OSError as error:
        return _unwritten(name, error)


def _unwritten(name: str, error: OSError) -> int:
    """Say that there is no room to write; nothing when it is just that `| head` has seen enough."""
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes when it ends
        return _UNREAD
    if error.errno not in _NO_ROOM:
        raise error
    print(f"retrank {name}: cannot write: {error}; free space or rights and try again", file=sys.stderr)
    return RetrankError.exit_code


def _dispatch(name: str, rest: list[str]) -> int:
    if name in ("-h", "--help", "-V", "--version"):
        print(__version__ if name in ("-V", "--version") else _usage())
        return 0
    if name in _PLAIN:
        _load(_PLAIN[name].target)(rest)
        return 0
    rest = _with_config_dir(rest)
    if name not in _COMMANDS:
        raise ConfigError(f"unknown command; expected one of {', '.join([*_COMMANDS, *_PLAIN])}")
    if "--multirun" in rest or "-m" in rest:
        return _sweep(name, [argument for argument in rest if argument not in ("--multirun", "-m")])
    _run_once(name, rest)
    return 0


def _with_config_dir(arguments: list[str]) -> list[str]:
    """Replace `--config-dir DIR` or `--config-dir=DIR` by the Hydra override that searches it too."""
    spread = [part for argument in arguments for part in _parted(argument)]
    if _CONFIG_DIR not in spread:
        return arguments
    position = spread.index(_CONFIG_DIR)
    named = spread[position + 1 : position + 2]
    if not any(named) or not Path(*named).is_dir():
        raise ConfigError(f"{_CONFIG_DIR} {' '.join(named)}: expected a folder after it")
    return [*spread[:position], *spread[position + 2 :], f"hydra.searchpath=[file://{Path(*named).resolve()}]"]


def _parted(argument: str) -> list[str]:
    return argument.split("=", 1) if argument.startswith(f"{_CONFIG_DIR}=") else [argument]


def _run_once(name: str, overrides: list[str]) -> None:
    from retrank.config import compose, resolve  # noqa: PLC0415  (Hydra is loaded for the command that needs it)

    if any(flag in overrides for flag in ("-h", "--help")):
        from omegaconf import OmegaConf  # noqa: PLC0415

        print(f"retrank {name} KEY=VALUE ...: {_COMMANDS[name].summary}. The settings and their defaults:\n")
        print(OmegaConf.to_yaml(compose(name)))
        return
    command = _COMMANDS[name]
    if command.acts and overrides and "=" not in overrides[0]:
        overrides = [f"act={overrides[0]}", *overrides[1:]]
    settings = resolve(compose(name, overrides))  # before the import: a mistyped key need not wait for torch
    _load(command.target)(overrides if command.composes else settings)


def _sweep(name: str, overrides: list[str]) -> int:
    """Run every combination of comma-separated values, each in a folder of its own under the sweep's folder."""
    if name != "train":
        raise ConfigError(f"--multirun works with train, not with {name}")

    import hydra  # noqa: PLC0415
    from hydra.core.hydra_config import HydraConfig  # noqa: PLC0415
    from omegaconf import DictConfig  # noqa: PLC0415

    from retrank.config import check_known, compose, configs_dir, resolve  # noqa: PLC0415

    check_known(name, compose(name))  # keeps the names that are known: within a job Hydra composes nothing else
    ended: list[tuple[Sequence[str], object]] = []

    def job(config: DictConfig) -> None:
        check_known(name, config)
        varied = list(HydraConfig.get().overrides.task)
        ended.append((varied, _load(_COMMANDS[name].target)(resolve(config))))

    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach main(), which prints their message alone
    sys.argv = [f"retrank-{name}", "--multirun", *overrides, "run_dir=${hydra:runtime.output_dir}"]
    hydra.main(version_base="1.3", config_path=str(configs_dir()), config_name=name)(job)()
    _load(_MULTIRUN)(ended, overrides)
    return 0


def _load(target: str) -> Callable[..., object]:
    module, _, attribute = target.partition(":")
    function: Callable[..., object] = getattr(import_module(module), attribute)
    return function


def _usage() -> str:
    rows = [f"  {name:<10} {command.summary}" for name, command in (_COMMANDS | _PLAIN).items()]
    return "\n".join(
        [
            f"retrank {__version__}: train, prove and serve recommenders",
            "",
            "usage: retrank COMMAND [KEY=VALUE ...]",
            "",
            *rows,
            "",
            "`retrank COMMAND --help` prints every setting of a command with its default.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
