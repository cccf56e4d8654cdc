"""How long each stage usually takes: a running 95th percentile in constant memory, which decides what a deadline skips.

Source: DUMIQE, the deterministic update of Yazidi and Hammer, Multiplicative Update Methods for Incremental Quantile
Estimation, IEEE Trans. Cybernetics 2019. Deviation: the estimate shrinks a little each time a stage is skipped, so that
a stage that was slow once is tried again. And a run that ended behind the deadline, right after another that did, is
believed at once: the estimate grows by a twentieth a run, so a stage that stalls would be waited for a hundred times.
"""

_QUANTILE = 0.95
_STEP = 0.05
_FORGET = 0.98
_LEAST_S = 1e-6


class StageTime:
    """The running 95th percentile of one stage, in seconds. Updates from several threads may overwrite one another."""

    __slots__ = ("_was_late", "usual_s")

    def __init__(self) -> None:
        """Start knowing nothing: a stage is tried before it is judged."""
        self.usual_s = 0.0
        self._was_late = False

    def took(self, seconds: float, *, late: bool = False) -> None:
        """Learn from one run; `late` when it ended behind the deadline of its request."""
        usual, seconds = self.usual_s, max(seconds, _LEAST_S)
        stalls, self._was_late = late and self._was_late, late
        if usual == 0.0 or (stalls and seconds > usual):
            self.usual_s = seconds
        elif seconds > usual:
            self.usual_s = usual * (1.0 + _STEP * _QUANTILE)
        else:
            self.usual_s = usual * (1.0 - _STEP * (1.0 - _QUANTILE))

    def skipped(self) -> None:
        """Forget a little."""
        self.usual_s *= _FORGET
