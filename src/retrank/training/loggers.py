"""Where metrics of a run go: CSV and TensorBoard always, MLflow when asked."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger

from retrank.contract.errors import ConfigError

_SQLITE = "sqlite:///"
_DATABASE_PACKAGES = ("sqlalchemy", "alembic")


@dataclass(frozen=True)
class Loggers:
    """What to log to.

    Attributes:
        mlflow_uri: tracking address of MLflow; None leaves MLflow out.
        mlflow_experiment: name of the MLflow experiment.
    """

    mlflow_uri: str | None = None
    mlflow_experiment: str = "retrank"

    def build(self, run_dir: Path) -> list[Logger]:
        """Return the loggers; a resumed run adds a version of its own beside the earlier ones.

        Raises:
            ConfigError: MLflow was asked for and is not installed.
        """
        logs = run_dir / "logs"
        loggers: list[Logger] = [CSVLogger(logs, name="csv"), TensorBoardLogger(logs, name="tensorboard")]
        if self.mlflow_uri is not None:
            loggers.append(self._mlflow(self.mlflow_uri, run_dir))
        return loggers

    def _mlflow(self, uri: str, run_dir: Path) -> Logger:
        needed = ["mlflow", *(_DATABASE_PACKAGES if uri.startswith(_SQLITE) else ())]
        missing = [name for name in needed if find_spec(name) is None]
        if missing:
            names = ", ".join(missing)
            raise ConfigError(f"logger=mlflow: {names} not installed; run pip install 'retrank[mlflow]'")
        if uri.startswith(_SQLITE):
            Path(uri.removeprefix(_SQLITE)).parent.mkdir(parents=True, exist_ok=True)
        return MLFlowLogger(experiment_name=self.mlflow_experiment, tracking_uri=uri, run_name=run_dir.name)
