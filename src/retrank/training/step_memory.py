"""What a step is going to need, roughly, before the first one: a kernel that ends a process gives no reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from retrank.contract.errors import TrainingError

_FLOAT = 4
_STATES = 5
"""Weights, gradients, two moments of the optimizer, the average."""
_FLOATS_PER_TOKEN, _FLOATS_PER_BLOCK, _FLOATS_PER_PAIR = 16, 33, 2
"""Times the width: what `autograd` keeps of an event, and of it in each block; and times heads of it with each other.

Counted with `saved_tensors_hooks` on SASRec, HSTU and pooled histories of width 64 and 128: 33 to 36, 16 to 34, 16.
"""
_BACKWARD = 1.6
"""Peak of a step over what `autograd` keeps: gradients come beside it. Measured as growth of resident memory in steps
of SASRec with 300 and 1,500 histories (0.8 and 2.7 GiB, of which 0.3 are there with any number of histories).
"""
_COPIES_OF_SCORES = 3
_REFUSED_BEYOND = 2.0
_GIB = 2**30
_KNOBS = {
    "weights and optimizer": "model.width",
    "activations": "batches.batch_size, batches.max_length (model.max_length) or model.width",
    "scores": "loss.chunk, loss.num_negatives or batches.batch_size, or take loss=sampled_softmax",
}


@dataclass(frozen=True)
class StepSize:
    """What decides about memory.

    Attributes:
        num_weights: numbers to learn.
        num_tokens: events read in a step, padding included.
        length: events of the longest history that is read.
        width: of states.
        num_blocks: of attention; 0 for a pooled history.
        num_heads: of each.
        num_scores: scores that are held at a time.
        num_items: whose vectors are made in a step.
    """

    num_weights: int
    num_tokens: int
    length: int
    width: int
    num_blocks: int
    num_heads: int
    num_scores: int
    num_items: int


def kept_bytes(size: StepSize) -> int:
    """Return what `autograd` keeps for the way back, in float32; within a factor of two for the encoders that ship."""
    of_token = size.width * (_FLOATS_PER_TOKEN + _FLOATS_PER_BLOCK * size.num_blocks)
    of_pairs = _FLOATS_PER_PAIR * size.num_blocks * size.num_heads * size.length
    return _FLOAT * size.num_tokens * (of_token + of_pairs)


def step_bytes(size: StepSize) -> dict[str, int]:
    """Return the bytes that a step takes at its peak, by part."""
    return {
        "weights and optimizer": _STATES * _FLOAT * size.num_weights,
        "activations": round(_BACKWARD * kept_bytes(size)),
        "scores": _FLOAT * (_COPIES_OF_SCORES * size.num_scores + 2 * size.num_items * size.width),
    }


def judge(needed: Mapping[str, int], free: int, where: str) -> str:
    """Return a warning where a step may not fit, "" where it should.

    Args:
        needed: of `step_bytes`.
        free: bytes that are free.
        where: they are: "memory", "memory of the GPU".

    Raises:
        TrainingError: it needs more than twice what is free.
    """
    total = sum(needed.values())
    if total <= free:
        return ""
    parts = ", ".join(f"{name} {size / _GIB:,.1f}" for name, size in needed.items())
    largest = max(needed, key=lambda name: needed[name])
    said = (
        f"a step needs about {total / _GIB:,.1f} GiB ({parts}) and {free / _GIB:,.1f} GiB of {where} are free; lower "
        f"{_KNOBS[largest]}"
    )
    if total > _REFUSED_BEYOND * free:
        raise TrainingError(f"{said}. trainer.check_memory=false trains all the same")
    return f"warning: {said}, if the process is killed"


def free_memory(proc: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the bytes that this process may still take, by machine and container; None where nobody says.

    Args:
        proc: what Linux says of the machine.
        cgroup: what it says of the container, version 2.
    """
    found = []
    if proc.is_file():
        lines = (line.split() for line in proc.read_text().splitlines())
        found += [int(words[1]) * 1024 for words in lines if words and words[0] == "MemAvailable:"]
    limit, used = cgroup / "memory.max", cgroup / "memory.current"
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()).isdigit():
        found.append(max(int(most) - int(used.read_text()), 0))
    return min(found, default=None)
