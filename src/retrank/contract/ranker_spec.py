"""How a ranker is asked, as sealed in `ranker.json`: which sources propose, what it reads, what its outputs mean."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from retrank.contract.api import Source
from retrank.contract.calibration import Calibration
from retrank.contract.candidate_features import feature_names

RANKER_OUTPUT = "head_scores"
"""Output of `ranker.onnx`, `[B, C, H]`; inputs are named as in `RankerArrays`."""
_SMALLEST = 1e-30
"""Answers below count as this, so that they have a logarithm."""


class HeadSpec(BaseModel):
    """One thing a ranker predicts, see `contract.heads.Head`.

    Attributes:
        name, kind, given: as in `Head`.
        weight: exponent of this answer in the score, >= 0; 0 = predicted, not ranked by.
        calibration: from the logit of a binary head to its probability; None = the logistic function.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Literal["binary", "value"]
    given: str | None = None
    weight: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    calibration: Calibration | None = None


class RankerSpec(BaseModel):
    """Everything besides the graph and the arrays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoding: Literal["candidates/1"] = "candidates/1"
    limits: dict[Source, int]
    """Source -> how many of its items enter, in the order of the features."""
    covisit_window: int = Field(ge=1)
    fresh_days: float = Field(gt=0)
    history_length: int = Field(ge=1)
    numbers: tuple[str, ...] = ()
    heads: tuple[HeadSpec, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources in the order of the features."""
        return tuple(self.limits)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features in order."""
        return feature_names(self.sources, self.numbers)

    def answers(self, outputs: NDArray[np.floating]) -> NDArray[np.float64]:
        """Turn `[C, H]` outputs of the graph into calibrated probabilities and expected amounts, `[C, H]` float64."""
        columns = zip(self.heads, np.asarray(outputs, dtype=np.float64).T, strict=True)
        return np.stack([_answer(head, column) for head, column in columns], axis=1)

    def score(self, outputs: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the `[C]` float64 score of `[C, H]` outputs: the product of all answers, each to its weight."""
        logs = np.zeros(len(outputs))
        for head, column in zip(self.heads, np.asarray(outputs, dtype=np.float64).T, strict=True):
            if head.weight > 0:
                logs += head.weight * np.log(np.maximum(_answer(head, column), _SMALLEST))
        return np.exp(logs, out=logs)

    def to_json(self) -> str:
        """Return the spec as JSON, keys in order of definition."""
        return self.model_dump_json(indent=2) + "\n"


def _answer(head: HeadSpec, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn the `[C]` outputs of one head into calibrated probabilities or expected amounts."""
    if head.kind == "value":
        return outputs
    if head.calibration is None:
        return 0.5 * (1 + np.tanh(outputs / 2))
    return head.calibration.apply(outputs)
