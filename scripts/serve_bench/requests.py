"""The requests of the benchmark: known users, each with a long history, and new clicks in this visit."""

import json
from pathlib import Path

import numpy as np

from retrank.contract.bundle import ITEM_VOCAB, USER_VOCAB
from retrank.contract.files import current
from retrank.contract.vocab import Vocab

K = 20
NUM_REQUESTS = 2_000
_RECENT = 3


def plain(bundle: Path, *, seed: int = 0) -> list[bytes]:
    """Return bodies that every contestant understands: a known user and k."""
    return [json.dumps({"user_id": user_id, "k": K}).encode() for user_id in _users(bundle, seed)]


def full(bundle: Path, *, seed: int = 0) -> list[bytes]:
    """Return bodies that ask for everything: session, placement, context, reasons, diversity, exploration."""
    rng = np.random.default_rng(seed)
    items = Vocab.open(current(bundle), ITEM_VOCAB)
    bodies = []
    for user_id in _users(bundle, seed):
        recent = [items.id(int(row)) for row in rng.integers(1, len(items) + 1, _RECENT)]
        body = {
            "user_id": user_id,
            "k": K,
            "placement": "home",
            "context": {"device": "phone"},
            "session": {"id": f"s-{user_id}", "recent": recent},
            "diversity": {"mode": "mmr", "strength": 0.2},
            "explore": {"policy": "softmax", "strength": 0.1},
        }
        bodies.append(json.dumps(body).encode())
    return bodies


def _users(bundle: Path, seed: int) -> list[str]:
    users = Vocab.open(current(bundle), USER_VOCAB)
    drawn = np.random.default_rng(seed).integers(1, len(users) + 1, NUM_REQUESTS)
    return [users.id(int(row)) for row in drawn]
