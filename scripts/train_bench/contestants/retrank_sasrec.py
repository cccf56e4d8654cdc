"""retrank's SASRec as `retrank train experiment=ml1m_sasrec` runs it, without validation: none of the others validates.

The second argument names the model configuration: `sasrec_classic`, the shape of the other libraries, or `sasrec`, the
default.
"""

import sys
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from channel import Stopwatch, Task, say, wait

from retrank.config import compose, instantiate, resolve
from retrank.contract.sequences import Sequences
from retrank.training.callbacks import Throughput
from retrank.training.datamodule import HistoryData
from retrank.training.ema import Ema
from retrank.training.retrieval_module import RetrievalModule
from retrank.training.scorer import ModelScorer


class Pace(pl.Callback):
    """Waits before each epoch and reports after it."""

    def __init__(self) -> None:
        self.watch = Stopwatch()

    def on_train_epoch_start(self, *_: Any) -> None:
        self.watch.start()

    def on_train_epoch_end(self, *_: Any) -> None:
        self.watch.report()


def configuration(task: Task, model: str) -> dict[str, Any]:
    settings = task.settings
    overrides = [
        "experiment=ml1m_sasrec", f"model={model}", f"run_dir={task.folder / f'run_{model}'}", "store=unused",
        f"model.width={settings['width']}", f"model.max_length={settings['length']}",
        f"model.num_blocks={settings['blocks']}", f"model.num_heads={settings['heads']}",
        f"model.dropout={settings['dropout']}", f"batches.batch_size={settings['batch_size']}",
        f"optim.learning_rate={settings['learning_rate']}", f"trainer.max_epochs={settings['epochs']}",
        f"trainer.threads={settings['threads']}", "trainer.accelerator=cpu", "trainer.progress=false",
    ]  # fmt: skip
    if model == "sasrec_classic":
        overrides.append("loss.temperature=1")
    return resolve(compose("train", overrides))


def main() -> None:
    task, kind = Task(sys.argv[1]), sys.argv[2]
    config = configuration(task, kind)
    pl.seed_everything(task.settings["seed"], verbose=False)
    histories = Sequences(task.array("train_items"), task.array("train_offsets"))
    inputs = Sequences(task.array("inputs_items"), task.array("inputs_offsets"))
    model = instantiate(config["model"])(num_items=task.settings["num_items"])
    module = RetrievalModule(model, instantiate(config["loss"]), instantiate(config["optim"]))
    data = HistoryData(histories, instantiate(config["batches"]), seed=task.settings["seed"], inputs=model.inputs)
    ema, run_dir = Ema(config["trainer"]["ema_decay"]), task.folder / f"run_{kind}"
    loggers = instantiate(config["logger"]).build(run_dir)
    trainer = instantiate(config["trainer"]).build(run_dir, [ema, Throughput(), Pace()], loggers)
    say(ready=True)
    trainer.fit(module, datamodule=data)
    wait()
    with ema.applied(module), torch.no_grad():
        task.keep_scores(f"retrank_{kind}", np.asarray(ModelScorer(model).score(inputs)))
    say(finished=True, parameters=sum(parameter.numel() for parameter in model.parameters()))


if __name__ == "__main__":
    main()
