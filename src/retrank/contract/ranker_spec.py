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
        columns = []
        for head, column in zip(self.heads, np.asarray(outputs, dtype=np.float64).T, strict=True):
            if head.kind == "value":
                columns.append(column)
            elif head.calibration is None:
                columns.append(0.5 * (1 + np.tanh(column / 2)))
            else:
                columns.append(head.calibration.apply(column))
        return np.stack(columns, axis=1)

    def score(self, outputs: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the `[C]` float64 score of `[C, H]` outputs: the product of all answers, each to its weight."""
        weights = np.array([head.weight for head in self.heads])
        logs = np.log(np.maximum(self.answers(outputs)[:, weights > 0], 1e-30))
        combined: NDArray[np.float64] = np.exp(logs @ weights[weights > 0])
        return combined

    def to_json(self) -> str:
        """Return the spec as JSON, keys in order of definition."""
        return self.model_dump_json(indent=2) + "\n"
