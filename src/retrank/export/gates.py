"""What a bundle must have shown before it is sealed. A failing gate names the figure seen and the one required."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from retrank.contract.errors import ConfigError, GateError
from retrank.contract.manifest import MetricFacts
from retrank.export.parity import Parity
from retrank.export.recall import Measured
from retrank.metrics.bootstrap import PairedDifference


@dataclass(frozen=True)
class Gates:
    """The quality gates of an export.

    Args:
        parity_rows: histories on which torch and ONNX Runtime are compared, >= 3.
        parity_tolerance: largest allowed difference of a query component.
        parity_top_k: item lists of this length must be identical, near-ties aside.
        min_metrics: least value of each named offline metric, such as {"ndcg@10": 0.05}.
        not_worse_than: baselines that may not be clearly better: with the whole 95 % interval of the difference.
        must_beat: baselines that must score less than the model on every metric of `beat_on`.
        beat_on: the metrics on which they must.
        golden_tolerance: allowed difference of a golden score, relative to max(1, |score|).
        ranker_tolerance: largest allowed difference of a ranker's output, relative to max(1, |output|).
    """

    parity_rows: int = 10_000
    parity_tolerance: float = 1e-4
    parity_top_k: int = 20
    min_metrics: dict[str, float] = field(default_factory=dict)
    not_worse_than: Sequence[str] = ("popularity",)
    must_beat: Sequence[str] = ()
    beat_on: Sequence[str] = ("ndcg@10",)
    golden_tolerance: float = 1e-4
    ranker_tolerance: float = 1e-3

    def __post_init__(self) -> None:
        """Refuse settings that prove nothing.

        Raises:
            ConfigError: too few rows, or a tolerance or list length that is not positive.
        """
        if self.parity_rows < 3:
            raise ConfigError(f"sealing.gates.parity_rows is {self.parity_rows}; at least 3 histories must be compared")
        if min(self.parity_tolerance, self.golden_tolerance, self.ranker_tolerance, self.parity_top_k) <= 0:
            raise ConfigError(
                f"sealing.gates: parity_tolerance {self.parity_tolerance}, golden_tolerance {self.golden_tolerance}, "
                f"ranker_tolerance {self.ranker_tolerance}, parity_top_k {self.parity_top_k}; each must be above 0"
            )

    def check_metrics(self, metrics: MetricFacts) -> None:
        """Refuse a model below its floor, or not better than a baseline.

        Raises:
            GateError: a metric is too low, or was never measured.
        """
        for name, required in self.min_metrics.items():
            seen = metrics.values.get(name)
            if seen is None or not seen >= required:
                raise GateError(
                    f"{name} is {_shown(seen)}, the gate requires at least {required}; "
                    "train longer or lower sealing.gates.min_metrics"
                )
        for baseline in self.must_beat:
            for name in self.beat_on:
                seen, rival = metrics.values.get(name), metrics.baselines.get(baseline, {}).get(name)
                if seen is None or rival is None or not seen > rival:
                    raise GateError(
                        f"{name} is {_shown(seen)}, the gate requires more than baseline {baseline!r} at "
                        f"{_shown(rival)}; train longer or change sealing.gates.must_beat"
                    )

    def check_leads(self, leads: Mapping[str, PairedDifference]) -> list[str]:
        """Refuse what counting beats for certain; return a warning for each baseline that may be as good.

        Args:
            leads: NDCG@10 of what will be served minus that of each baseline of `not_worse_than`.

        Raises:
            GateError: a baseline is clearly better.
        """
        warnings = []
        for name, lead in leads.items():
            found = (
                f"ndcg@10 is {lead.second:.4f}, baseline {name!r} has {lead.first:.4f} "
                f"(95 % interval of the difference {lead.low:+.4f} to {lead.high:+.4f})"
            )
            if lead.high < 0:
                raise GateError(
                    f"{found}: that is worse than counting, perhaps the run diverged; look at its report, lower "
                    "optim.learning_rate or train longer. To seal it all the same: 'sealing.gates.not_worse_than=[]'"
                )
            if not lead.low > 0:
                warnings.append(f"WARNING: {found}: not shown to be better than counting")
        return warnings

    def check_parity(self, parity: Parity) -> None:
        """Refuse an ONNX file that does not answer like the torch model.

        Raises:
            GateError: too large a difference, or a different item list.
        """
        if not parity.max_difference <= self.parity_tolerance:
            raise GateError(
                f"ONNX and torch queries differ by {parity.max_difference:.2e} over {parity.rows} histories, the gate "
                f"requires at most {self.parity_tolerance:.0e}; the exported graph is not the trained model"
            )
        if parity.different:
            raise GateError(
                f"{parity.different} of {parity.rows} top-{parity.top_k} lists differ between ONNX and torch beyond "
                "near-ties, the gate requires 0; the exported graph is not the trained model"
            )

    def check_index(self, measured: Measured, target: float) -> None:
        """Refuse an index that finds too little.

        Raises:
            GateError: recall below the target.
        """
        if not measured.recall >= target:
            raise GateError(
                f"index {measured.factory} {measured.settings}: recall@{measured.recall_at} is {measured.recall:.4f} "
                f"on {measured.num_queries} fresh queries, the gate requires {target}; choose another index family"
            )


def _shown(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4f}"
