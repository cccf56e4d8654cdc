"""What a sweep searches: settings, and the distributions they are drawn from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from retrank.contract.errors import ConfigError

_LEAF = {"low", "high", "log", "choices"}


@dataclass(frozen=True)
class SweepSettings:
    """What is searched and for how long.

    Attributes:
        trials: trials that finish or fail, counted over resumes, >= 1.
        startup: trials drawn at random before the sampler learns from results, >= 1.
        seed: of the sampler; a draw follows from it and the results before, also over resumes.
        directory: folder of the sweep; one that holds a sweep is continued. None = a new one beside the runs.
        evaluate_best: evaluate the best trial on the test cases at the end; no other trial ever is.
        groups: configuration groups to choose from, such as `{"loss": ["full_softmax", "sampled_softmax"]}`.
        space: nested like the settings; leaves are `{low, high, log}` or `{choices}`, None is skipped.
    """

    trials: int = 20
    startup: int = 8
    seed: int = 1
    directory: str | None = None
    evaluate_best: bool = True
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    space: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a sweep that cannot run.

        Raises:
            ConfigError: a number is out of range, or nothing is searched.
        """
        if self.trials < 1 or self.startup < 1:
            raise ConfigError(f"sweep.trials is {self.trials} and sweep.startup {self.startup}; both must be >= 1")
        if not self.distributions():
            raise ConfigError("sweep.space and sweep.groups are empty; name at least one setting to search")

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return what each setting is drawn from, by dotted name.

        Raises:
            ConfigError: a leaf is not `{low, high, log}` or `{choices}`, or its bounds are wrong.
        """
        groups = {name: _distribution(f"groups.{name}", {"choices": names}) for name, names in self.groups.items()}
        return {**groups, **_distributions(self.space, "")}


def check_names(settings: SweepSettings, config: Mapping[str, Any]) -> None:
    """Refuse to search what no trial would read; what belongs to a searched group is known only later.

    Raises:
        ConfigError: a name is not a setting of `config`.
    """
    for name in settings.distributions():
        node: Any = config
        for part in name.split("."):
            known = sorted(node) if isinstance(node, Mapping) else []
            if part in settings.groups:
                break
            if part not in known:
                raise ConfigError(f"sweep.space.{name}: no such setting; expected one of {', '.join(known) or 'none'}")
            node = node[part]


def _distributions(node: Mapping[str, Any], prefix: str) -> dict[str, BaseDistribution]:
    found: dict[str, BaseDistribution] = {}
    for name, value in node.items():
        if value is None:
            continue
        if not isinstance(value, Mapping):
            raise ConfigError(f"sweep.space.{prefix}{name} is {value!r}; expected low and high, or choices")
        if _LEAF & value.keys():
            found[f"{prefix}{name}"] = _distribution(f"space.{prefix}{name}", value)
        else:
            found |= _distributions(value, f"{prefix}{name}.")
    return found


def _distribution(name: str, leaf: Mapping[str, Any]) -> BaseDistribution:
    if set(leaf) not in ({"choices"}, {"low", "high"}, {"low", "high", "log"}):
        raise ConfigError(f"sweep.{name} is {dict(leaf)}; expected low and high (log may follow), or choices alone")
    try:
        if "choices" in leaf:
            return CategoricalDistribution(list(leaf["choices"]))
        low, high, log = leaf["low"], leaf["high"], bool(leaf.get("log", False))
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log)
        return FloatDistribution(float(low), float(high), log=log)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"sweep.{name} is {dict(leaf)}: {error}") from error
