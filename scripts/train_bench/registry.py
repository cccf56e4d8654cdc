"""The cases by name. A new case is a module with `NAME` and `run(options) -> Result`, and one line here."""

from collections.abc import Callable

from train_bench.cases import evaluation, lightning_overhead, loader, seq_small, softmax
from train_bench.options import Options
from train_bench.result import Result

CASES: dict[str, Callable[[Options], Result]] = {
    case.NAME: case.run for case in (seq_small, loader, lightning_overhead, softmax, evaluation)
}
