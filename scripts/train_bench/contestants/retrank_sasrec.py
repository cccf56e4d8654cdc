"""retrank's SASRec as `retrank train experiment=ml1m_sasrec` runs it, without validation: none of the others validates.

The second argument names the model configuration: `sasrec_classic`, the shape of the other libraries, or `sasrec`, the
default. The third is the precision. `sasrec_classic` also trains as the others do: Adam at a constant rate with their
betas, and the last weights count, not their average, which after a few epochs still remembers the start.
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


AS_THE_OTHERS = (
    "loss.temperature=1", "optim.decay=constant", "optim.warmup_steps=0", "optim.weight_decay=0",
    "optim.betas=[0.9,0.98]", "trainer.ema_decay=0",
)  # fmt: skip


def configuration(task: Task, model: str, precision: str) -> dict[str, Any]:
    settings, run_dir = task.settings, task.folder / f"run_{model}_{precision}"
    overrides = [
        "experiment=ml1m_sasrec", f"model={model}", f"run_dir={run_dir}", "store=unused",
        f"model.width={settings['width']}", f"model.max_length={settings['length']}",
        f"model.num_blocks={settings['blocks']}", f"model.num_heads={settings['heads']}",
        f"model.dropout={settings['dropout']}", f"batches.batch_size={settings['batch_size']}",
        f"optim.learning_rate={settings['learning_rate']}", f"trainer.max_epochs={settings['epochs']}",
        f"trainer.threads={settings['threads']}", "trainer.accelerator=cpu", "trainer.progress=false",
        f"trainer.precision={precision}",
    ]  # fmt: skip
    if model == "sasrec_classic":
        overrides += AS_THE_OTHERS
    return resolve(compose("train", overrides))


def main() -> None:
    task, kind, precision = Task(sys.argv[1]), *sys.argv[2:]
    config = configuration(task, kind, precision)
    pl.seed_everything(task.settings["seed"], verbose=False)
    histories = Sequences(task.array("train_items"), task.array("train_offsets"))
    inputs = Sequences(task.array("inputs_items"), task.array("inputs_offsets"))
    model = instantiate(config["model"])(num_items=task.settings["num_items"])
    module = RetrievalModule(model, instantiate(config["loss"]), instantiate(config["optim"]))
    data = HistoryData(histories, instantiate(config["batches"]), seed=task.settings["seed"], inputs=model.inputs)
    ema, run_dir = Ema(config["trainer"]["ema_decay"]), task.folder / f"run_{kind}_{precision}"
    loggers = instantiate(config["logger"]).build(run_dir)
    trainer = instantiate(config["trainer"]).build(run_dir, [ema, Throughput(), Pace()], loggers)
    say(ready=True)
    trainer.fit(module, datamodule=data)
    wait()
    with ema.applied(module), torch.no_grad():
        task.keep_scores(f"retrank_{kind}_{precision}", np.asarray(ModelScorer(model).score(inputs)))
    say(finished=True, parameters=sum(parameter.numel() for parameter in model.parameters()))


if __name__ == "__main__":
    main()
