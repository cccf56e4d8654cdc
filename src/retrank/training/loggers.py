"""Where metrics of a run go: CSV and TensorBoard always, MLflow when asked."""

from dataclasses import dataclass
from pathlib import Path

from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger

from retrank.contract.errors import ConfigError

_SQLITE = "sqlite:///"


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
        if uri.startswith(_SQLITE):
            Path(uri.removeprefix(_SQLITE)).parent.mkdir(parents=True, exist_ok=True)
        try:
            return MLFlowLogger(experiment_name=self.mlflow_experiment, tracking_uri=uri, run_name=run_dir.name)
        except ModuleNotFoundError as error:
            raise ConfigError("logger=mlflow: MLflow is not installed; run pip install 'retrank[mlflow]'") from error
