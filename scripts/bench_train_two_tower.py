"""One training step of two towers with in-batch negatives: retrank, a plain torch loop, and RePlay, in turns.

    python scripts/bench_train_two_tower.py --replay peers/replay/bin/python --out two_tower.json

All read the same histories: 200,000 users, 100,000 items drawn by Zipf's law, 32 events each. Every event but the last
is answered by the next one, so a batch of 32 or 128 users makes 1,024 or 4,096 pairs. All have the same parts: width
64, two classic attention blocks with two heads as the query tower; item vectors from id and one category, bent by a
SwiGLU of width 64; in-batch softmax with accidental hits masked; AdamW. retrank also corrects by logQ and estimates how
often an item is a target; it moves the rows of the item table that a step touched, the others move all of them.

Each contestant is a process of its own. They take turns round by round, so that what else the machine does meets all of
them, and say how long a step took; the median of all rounds counts. Data loading is part of a step.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

NUM_USERS, NUM_ITEMS, NUM_CATEGORIES = 200_000, 100_000, 1_000
WIDTH, LENGTH, BLOCKS, HEADS, DROPOUT, RATE = 64, 32, 2, 2, 0.1, 1e-3
Step = Callable[[], float]


def main() -> None:
    args = arguments()
    if args.contestant:
        contest(args)
        return
    pythons = {"retrank": sys.executable, "torch": sys.executable} | ({"replay": args.replay} if args.replay else {})
    cases = [measure(pythons, pairs, args) for pairs in args.pairs]
    report = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "processor": platform.processor(), "cases": cases}
    args.out.write_text(json.dumps(report | {"threads": args.threads}, indent=2) + "\n")
    for case in cases:
        print(json.dumps({name: value for name, value in case.items() if name != "rounds"}))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replay", help="python of a virtual environment with replay-rec 0.22")
    parser.add_argument("--pairs", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=5, help="steps per round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("bench_two_tower.json"))
    parser.add_argument("--contestant", choices=sorted(CONTESTANTS), help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(pythons: dict[str, str], pairs: int, args: argparse.Namespace) -> dict[str, Any]:
    """Let the contestants take turns; return median milliseconds per step and how much faster retrank is."""
    common = ["--pairs", str(pairs), "--steps", str(args.steps), "--threads", str(args.threads)]
    processes = {
        name: subprocess.Popen(
            [python, "-W", "ignore", __file__, "--contestant", name, *common],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for name, python in pythons.items()
    }  # fmt: skip
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in processes}
    for process in processes.values():
        answer(process)  # ready, after a warm-up
    for _ in range(args.rounds):
        for name, process in processes.items():
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
            rounds[name].append(answer(process))
    for process in processes.values():
        process.communicate()
    median = {name: statistics.median(one["ms"] for one in found) for name, found in rounds.items()}
    cpu = {name: statistics.median(one["cpu_ms"] for one in found) for name, found in rounds.items()}
    ratio = {name: round(median[name] / median["retrank"], 2) for name in median}
    return {"pairs": pairs, "ms_per_step": median, "cpu_ms_per_step": cpu, "times_retrank": ratio, "rounds": rounds}


def answer(process: "subprocess.Popen[str]") -> dict[str, float]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"a contestant ended early: {process.args!r}")
    found: dict[str, float] = json.loads(line)
    return found


def contest(args: argparse.Namespace) -> None:
    """Warm up, then answer every line on standard input with the time of some steps."""
    import torch  # noqa: PLC0415  (the parent does without)

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    step = CONTESTANTS[args.contestant](args.pairs[0] // LENGTH)
    losses = [step() for _ in range(3)]
    print(json.dumps({"loss": losses[0]}), flush=True)
    for _ in sys.stdin:
        started, cpu = time.perf_counter(), time.process_time()
        for _ in range(args.steps):
            step()
        times = {"ms": time.perf_counter() - started, "cpu_ms": time.process_time() - cpu}
        print(json.dumps({name: 1000 * value / args.steps for name, value in times.items()}), flush=True)


def histories() -> np.ndarray[Any, np.dtype[np.int64]]:
    """`[U, 33]` item rows 1..N, popular ones often."""
    draws = np.random.default_rng(0).random((NUM_USERS, LENGTH + 1))
    rows: np.ndarray[Any, np.dtype[np.int64]] = np.minimum(np.exp(draws * np.log(NUM_ITEMS)), NUM_ITEMS).astype(
        np.int64
    )
    return rows


def categories() -> np.ndarray[Any, np.dtype[np.int64]]:
    """`[N + 1]` categories 0..999 of the item rows."""
    return np.random.default_rng(1).integers(0, NUM_CATEGORIES, NUM_ITEMS + 1)


def retrank(batch_size: int) -> Step:
    from functools import partial  # noqa: PLC0415

    from retrank.contract.item_content import ContentArrays  # noqa: PLC0415
    from retrank.contract.sequences import Sequences  # noqa: PLC0415
    from retrank.data.batches import Batches  # noqa: PLC0415
    from retrank.losses.sampled_softmax import SampledSoftmax  # noqa: PLC0415
    from retrank.models.sasrec import SASRec  # noqa: PLC0415
    from retrank.models.two_tower import TwoTower  # noqa: PLC0415
    from retrank.training.optim import AdamW  # noqa: PLC0415
    from retrank.training.retrieval_module import RetrievalModule  # noqa: PLC0415

    codes = (1 + categories()[:, None]).astype(np.int32)
    codes[0] = 0
    content = ContentArrays(codes, np.zeros((NUM_ITEMS + 1, 0), np.int32), NUM_CATEGORIES, 0)
    history = partial(SASRec, num_blocks=BLOCKS, num_heads=HEADS, flavour="classic")
    model = TwoTower(
        NUM_ITEMS, history=history, content=content, max_length=LENGTH, width=WIDTH, dropout=DROPOUT, similarity="dot"
    ).train()
    loss = SampledSoftmax(num_negatives=0, num_in_batch=LENGTH * batch_size)
    module = RetrievalModule(model, loss, AdamW(learning_rate=RATE))
    optimizer = module.recipe.optimizer(module.parameters())
    flat, bounds = histories().astype(np.int32).ravel(), np.arange(NUM_USERS + 1, dtype=np.int64) * (LENGTH + 1)
    batches = iter(Batches(Sequences(flat, bounds), batch_size=batch_size, max_length=LENGTH, seed=0))

    def step() -> float:
        batch = next(batches)
        value = loss(model.encode_all(batch.item_rows).flatten(0, 1)[batch.positions], model, batch.target_rows)
        optimizer.zero_grad()
        value.backward()
        module.on_after_backward()
        optimizer.step()
        return float(value)

    return step


def torch_loop(batch_size: int) -> Step:
    """What one writes in an afternoon: `nn.TransformerEncoder`, a `DataLoader`, and the batch's own logit matrix."""
    import torch  # noqa: PLC0415
    from torch import nn  # noqa: PLC0415
    from torch.nn import functional as F  # noqa: PLC0415

    class Towers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ids, self.kinds = nn.Embedding(NUM_ITEMS + 1, WIDTH), nn.Embedding(NUM_CATEGORIES, WIDTH)
            self.places = nn.Embedding(LENGTH, WIDTH)
            layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, DROPOUT, batch_first=True, norm_first=True)
            self.history = nn.TransformerEncoder(layer, BLOCKS, enable_nested_tensor=False)
            self.gate, self.up, self.down = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
            self.kind_of = torch.from_numpy(categories())

        def forward(self, rows: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            future = nn.Transformer.generate_square_subsequent_mask(LENGTH)
            events = self.ids(rows) + self.kinds(self.kind_of[rows]) + self.places.weight
            queries = self.history(events, mask=future, is_causal=True).flatten(0, 1)
            wanted = targets.flatten()
            items = self.ids(wanted) + self.kinds(self.kind_of[wanted])
            items = items + self.down(F.silu(self.gate(items)) * self.up(items))
            logits = queries @ items.T
            same = (wanted[:, None] == wanted) & ~torch.eye(len(wanted), dtype=torch.bool)
            return F.cross_entropy(logits.masked_fill(same, -torch.inf), torch.arange(len(wanted)))

    rows = torch.from_numpy(histories())
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(rows), batch_size, shuffle=True)
    model = Towers().train()
    return _stepper(loader, model, lambda part: model(part[0][:, :-1], part[0][:, 1:]))


def replay(batch_size: int) -> Step:
    import tempfile  # noqa: PLC0415

    import pandas as pd  # noqa: PLC0415
    import torch  # noqa: PLC0415
    from replay.data import FeatureHint, FeatureSource, FeatureType  # noqa: PLC0415
    from replay.data.nn import TensorFeatureInfo, TensorFeatureSource, TensorSchema  # noqa: PLC0415
    from replay.nn.agg import SumAggregator  # noqa: PLC0415
    from replay.nn.embedding import SequenceEmbedding  # noqa: PLC0415
    from replay.nn.ffn import SwiGLUEncoder  # noqa: PLC0415
    from replay.nn.loss import CESampled  # noqa: PLC0415
    from replay.nn.mask import DefaultAttentionMask  # noqa: PLC0415
    from replay.nn.sequential import PositionAwareAggregator, SasRecTransformerLayer  # noqa: PLC0415
    from replay.nn.sequential.twotower import FeaturesReader, TwoTower, TwoTowerBody  # noqa: PLC0415

    def feature(name: str, size: int, source: Any, hint: Any) -> Any:
        return TensorFeatureInfo(
            name, is_seq=True, feature_type=FeatureType.CATEGORICAL, embedding_dim=WIDTH, padding_value=size,
            cardinality=size, feature_hint=hint, feature_sources=[TensorFeatureSource(source, name)],
        )  # fmt: skip

    schema = TensorSchema(
        [
            feature("item_id", NUM_ITEMS, FeatureSource.INTERACTIONS, FeatureHint.ITEM_ID),
            feature("category", NUM_CATEGORIES, FeatureSource.ITEM_FEATURES, None),
        ]
    )
    kinds = categories()[1:]
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/items.parquet"
        pd.DataFrame({"item_id": np.arange(NUM_ITEMS), "category": kinds}).to_parquet(path)
        reader = FeaturesReader(schema=schema, metadata={"item_id": {}, "category": {}}, path=path)
    both = SumAggregator(embedding_dim=WIDTH)
    body = TwoTowerBody(
        schema=schema,
        embedder=SequenceEmbedding(schema=schema),
        attn_mask_builder=DefaultAttentionMask(reference_feature_name="item_id", num_heads=HEADS),
        query_tower_feature_names=schema.names,
        query_embedding_aggregator=PositionAwareAggregator(
            embedding_aggregator=both, max_sequence_length=LENGTH, dropout=DROPOUT
        ),
        item_embedding_aggregator=both,
        query_encoder=SasRecTransformerLayer(
            embedding_dim=WIDTH, num_heads=HEADS, num_blocks=BLOCKS, dropout=DROPOUT, activation="relu",
            hidden_dim=4 * WIDTH,
        ),
        query_tower_output_normalization=torch.nn.LayerNorm(WIDTH),
        item_encoder=SwiGLUEncoder(embedding_dim=WIDTH, hidden_dim=WIDTH),
        item_features_reader=reader,
    )  # fmt: skip
    model = TwoTower(body=body, loss=CESampled(ignore_index=NUM_ITEMS)).train()
    rows, kind_of = torch.from_numpy(histories()) - 1, torch.from_numpy(kinds)  # item row r is RePlay's r - 1
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(rows), batch_size, shuffle=True)

    def loss(part: Any) -> Any:
        read, wanted = part[0][:, :-1].contiguous(), part[0][:, 1:, None].contiguous()
        return model(
            feature_tensors={"item_id": read, "category": kind_of[read]},
            padding_mask=torch.ones_like(read, dtype=torch.bool),
            positive_labels=wanted,
            negative_labels=wanted.unique(),
            target_padding_mask=torch.ones_like(wanted, dtype=torch.bool),
        )["loss"]

    return _stepper(loader, model, loss)


def _stepper(loader: Any, model: Any, loss: Callable[[Any], Any]) -> Step:
    import torch  # noqa: PLC0415

    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    parts: Iterator[Any] = iter(loader)

    def step() -> float:
        value = loss(next(parts))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return float(value)

    return step


CONTESTANTS = {"retrank": retrank, "torch": torch_loop, "replay": replay}

if __name__ == "__main__":
    main()
