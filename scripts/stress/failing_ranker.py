"""A ranker that fails when it is told to: its graph raises, or takes longer than anybody waits."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import onnxruntime as ort

from retrank.serving.recommender import Recommender
from retrank.serving.settings import PipelineSettings


class FailingGraph:
    """Stands in for the session of a ranker and passes everything on, until told otherwise."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self.raises = False
        self.stalls_s = 0.0
        self.asked = 0
        """How often it was run since it was told to fail."""

    def run(self, names: Sequence[str], inputs: Mapping[str, Any]) -> list[Any]:
        if self.raises or self.stalls_s:
            self.asked += 1
        if self.raises:
            raise RuntimeError("the graph cannot be run")
        time.sleep(self.stalls_s)
        found: list[Any] = self._session.run(list(names), dict(inputs))
        return found


class FailingRanker:
    """Puts a failing graph into a recommender; the graph is there once `installed` was called."""

    graph: FailingGraph

    def installed(self, opened: Recommender) -> Recommender:
        """Return the recommender over the same bundle, with a ranker that can be told to fail."""
        second = opened.runtime.second
        assert second is not None, "the bundle has no ranker"
        self.graph = FailingGraph(second.session)
        failing = replace(second, session=cast("ort.InferenceSession", self.graph))
        return Recommender(replace(opened.runtime, second=failing), PipelineSettings())

    def raise_errors(self) -> None:
        self.graph.raises, self.graph.asked = True, 0

    def stall(self, seconds: float) -> None:
        self.graph.stalls_s, self.graph.asked = seconds, 0

    def recover(self) -> None:
        self.graph.raises, self.graph.stalls_s = False, 0.0
