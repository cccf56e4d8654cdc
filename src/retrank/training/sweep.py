"""`retrank sweep`: search settings with Optuna; validation NDCG@10 is all that it sees.

<directory>/sweep.yaml   the settings that all trials share
            journal.log  every draw and result, from which an interrupted sweep continues
            trial_NNN/   run folders
            sweep.json  sweep.html
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from retrank.config import compose, instantiate, resolve
from retrank.contract.errors import ConfigError, InterruptedRun, RetrankError
from retrank.training import checkpoint, fit
from retrank.training.sweep_report import PAGE, write_sweep
from retrank.training.sweep_space import SweepSettings, check_names
from retrank.training.sweep_trials import Setting, Trial, from_folder, ranked, shown

JOURNAL, SETTINGS = "journal.log", "sweep.yaml"
_RUN, _REASON = "run", "reason"
_FREE = ("run_dir", "paths", "baselines", "logger")
"""Settings that may change when a sweep continues; so may how many trials there are and what happens to the best."""
_FREE_OF_SWEEP = ("trials", "directory", "evaluate_best")
_FAILURES = (RetrankError, RuntimeError, ValueError, ArithmeticError, MemoryError)


def main(overrides: Sequence[str]) -> Path:
    """Run or continue the sweep that the command line describes; return its folder.

    Raises:
        ConfigError: a setting is wrong or does not exist, or the folder holds another sweep.
        InterruptedRun: a signal ended it; the same command with `sweep.directory` continues.
    """
    config = resolve(compose("sweep", overrides))
    settings: SweepSettings = instantiate(config["sweep"])
    check_names(settings, config)
    if config["ckpt"] is not None:
        raise ConfigError(
            f"ckpt={config['ckpt']}: a sweep starts runs of its own; continue it with sweep.directory=..."
        )
    run_dir = Path(config["run_dir"])
    directory = Path(settings.directory) if settings.directory else run_dir.parent / f"sweep_{run_dir.name}"
    _claim(directory, config)
    print(f"sweep folder: {directory}", flush=True)
    study = _open(directory)
    try:
        _search(study, settings, directory, overrides)
    except InterruptedRun as error:
        raise InterruptedRun(
            f"{error}; to continue the sweep: the same command with sweep.directory={directory}", error.exit_code - 128
        ) from error
    finally:
        trials = _ended(study, directory)
        _report(trials, directory, config, overrides)
    best = ranked(trials)[0]
    if settings.evaluate_best and best.reason is None:
        _conclude(best, config)
    return directory


def _claim(directory: Path, config: Mapping[str, Any]) -> None:
    """Write down what all trials share, or check that a sweep that is there shares it too."""
    shared = {name: value for name, value in config.items() if name not in _FREE}
    shared["sweep"] = {name: value for name, value in config["sweep"].items() if name not in _FREE_OF_SWEEP}
    shared["trainer"] = {name: value for name, value in config["trainer"].items() if name != "progress"}
    path = directory / SETTINGS
    if path.is_file():
        saved = yaml.safe_load(path.read_text(encoding="utf-8"))
        if differences := checkpoint.differing(saved, shared, f"in {path}"):
            raise ConfigError(f"{directory} holds another sweep: {'; '.join(differences)}. Choose another folder")
        return
    if directory.exists() and any(directory.iterdir()):
        raise ConfigError(f"{directory} is not empty and holds no sweep; choose another sweep.directory")
    directory.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(shared, sort_keys=False), encoding="utf-8")


def _open(directory: Path) -> optuna.Study:
    """Open the study; a trial that was cut off is put in line again, to go on in its folder."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(directory / JOURNAL)))
    study = optuna.create_study(storage=storage, study_name="sweep", direction="maximize", load_if_exists=True)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.enqueue_trial(trial.params, user_attrs={_RUN: trial.user_attrs.get(_RUN, _folder(trial.number))})
        study.tell(trial.number, state=TrialState.FAIL)
    return study


def _search(study: optuna.Study, settings: SweepSettings, directory: Path, overrides: Sequence[str]) -> None:
    """Draw, train and tell until enough trials have ended."""
    distributions = settings.distributions()
    while (done := len(_ended(study, directory))) < settings.trials:
        # A sampler per trial: what it draws follows from the seed and the results so far, not from who was interrupted.
        seed = int(np.random.SeedSequence([settings.seed, done]).generate_state(1)[0])
        study.sampler = optuna.samplers.TPESampler(n_startup_trials=settings.startup, seed=seed)
        trial = study.ask(distributions)
        run_dir = directory / trial.user_attrs.get(_RUN, _folder(trial.number))
        trial.set_user_attr(_RUN, run_dir.name)
        try:
            _train(run_dir, overrides, trial.params)
        except InterruptedRun:
            raise
        except _FAILURES as error:
            trial.set_user_attr(_REASON, f"{type(error).__name__}: {error}")
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, from_folder(trial.number, trial.params, run_dir).value)
        _say(_ended(study, directory), settings.trials)


def _train(run_dir: Path, overrides: Sequence[str], params: Mapping[str, Setting]) -> None:
    """Run one trial up to its evaluation, from its last checkpoint where there is one."""
    drawn = [f"{name}={_word(value)}" for name, value in params.items()]
    config = resolve(compose("sweep", [*overrides, *drawn]))
    del config["sweep"]
    config["run_dir"] = str(run_dir)
    if (run_dir / checkpoint.CHECKPOINTS / checkpoint.LAST).is_file():
        config["ckpt"] = str(run_dir)
    fit.learn(config, say=lambda _: None)


def _ended(study: optuna.Study, directory: Path) -> list[Trial]:
    """Return the trials that finished or failed for a reason of their own, in the order in which they started."""
    return [
        from_folder(trial.number, trial.params, directory / trial.user_attrs[_RUN], trial.user_attrs.get(_REASON))
        for trial in study.get_trials(deepcopy=False)
        if trial.state == TrialState.COMPLETE or _REASON in trial.user_attrs
    ]


def _say(trials: Sequence[Trial], of: int) -> None:
    last, best = max(trials, key=lambda trial: trial.number), ranked(trials)[0]
    result = f"failed: {last.reason}" if last.value is None else f"{last.value:.4f}"
    params = " ".join(f"{name}={shown(value)}" for name, value in last.params.items())
    leader = "none yet" if best.value is None else f"{best.value:.4f} by trial {best.number}"
    print(f"trial {last.number} ({len(trials)} of {of}): {result} (best {leader}) {params}", flush=True)


def _report(trials: Sequence[Trial], directory: Path, config: Mapping[str, Any], overrides: Sequence[str]) -> None:
    if not trials:
        print("no trial has ended yet")
        return
    details = {"command": " ".join(["retrank sweep", *overrides]), "store": str(config["store"])}
    table = write_sweep(directory, f"Sweep of {config['name']}", trials, details)
    print(f"\n{table}\n\n{directory / PAGE}\n", flush=True)


def _conclude(best: Trial, config: Mapping[str, Any]) -> None:
    print(f"trial {best.number}, the best on validation, on the test cases:\n")
    fit.conclude(best.run_dir, config)


def _folder(number: int) -> str:
    return f"trial_{number:03d}"


def _word(value: Setting) -> str:
    """Write a value as Hydra reads it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
