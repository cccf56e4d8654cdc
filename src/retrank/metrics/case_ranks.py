"""The ranks of all targets of an evaluation: HR, Recall, NDCG and MRR follow from them, and so does any comparison."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrank.contract.errors import DataError, SourceError

KS = (1, 5, 10, 20, 50, 100, 200)


@dataclass(frozen=True)
class CaseRanks:
    """Ranks of all targets of C cases, T targets in all.

    Attributes:
        users: `[C]` int64 user positions.
        offsets: `[C + 1]` int64; case c owns targets `offsets[c]:offsets[c + 1]`, at least one.
        targets: `[T]` int32 item rows.
        ranks: `[T]` int32, 1 = best, `UNRANKED` = never recommended.
        num_items: size N of the catalogue that was ranked.
    """

    users: NDArray[np.int64]
    offsets: NDArray[np.int64]
    targets: NDArray[np.int32]
    ranks: NDArray[np.int32]
    num_items: int

    def __len__(self) -> int:
        """Return the number of cases C."""
        return len(self.users)

    def per_case(self, ks: tuple[int, ...] = KS) -> dict[str, NDArray[np.float64]]:
        """Compute every metric for every case.

        With n targets, of which h are among the first k:
        `hr@k` = 1 if h > 0; `recall@k` = h / min(k, n), so a perfect list has recall 1 at every k;
        `ndcg@k` = sum of 1 / log2(1 + rank) over the h found, divided by the same sum of a perfect list;
        `mrr@k` = 1 / rank of the best found, 0 if none. With one target per case HR equals Recall.

        Returns:
            metric name -> `[C]` float64 in 0..1.

        Raises:
            DataError: there is no case, or one without a target.
        """
        sizes = np.diff(self.offsets)
        if len(sizes) == 0 or sizes.min() < 1:
            raise DataError(f"{len(sizes)} cases, some may lack targets; metrics need at least one case with a target")
        starts, ranks = self.offsets[:-1], self.ranks.astype(np.float64)
        best = np.minimum.reduceat(ranks, starts)
        gains = 1 / np.log2(1 + ranks)
        ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(2 + np.arange(max(ks))))])
        metrics: dict[str, NDArray[np.float64]] = {}
        for k in ks:
            within = ranks <= k
            reachable = np.minimum(sizes, k)
            metrics[f"hr@{k}"] = (best <= k).astype(np.float64)
            metrics[f"recall@{k}"] = np.add.reduceat(within, starts, dtype=np.float64) / reachable
            metrics[f"ndcg@{k}"] = np.add.reduceat(gains * within, starts) / ideal[reachable]
            metrics[f"mrr@{k}"] = np.where(best <= k, 1 / best, 0.0)
        return metrics

    def mean(self, ks: tuple[int, ...] = KS) -> dict[str, float]:
        """Average every metric over the cases."""
        return {name: float(values.mean()) for name, values in self.per_case(ks).items()}

    def save(self, path: Path, *, data_hash: str, protocol: str) -> None:
        """Write the ranks and what they are ranks of as `.npz`, without pickle."""
        np.savez_compressed(
            path,
            users=self.users,
            offsets=self.offsets,
            targets=self.targets,
            ranks=self.ranks,
            num_items=np.int64(self.num_items),
            data_hash=np.str_(data_hash),
            protocol=np.str_(protocol),
        )


@dataclass(frozen=True)
class SavedRanks:
    """Ranks read from a run folder, with the hash of the store and the protocol they belong to."""

    ranks: CaseRanks
    data_hash: str
    protocol: str

    @classmethod
    def load(cls, path: Path) -> "SavedRanks":
        """Read what `CaseRanks.save` wrote.

        Raises:
            SourceError: the file is missing, damaged or something else.
        """
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                ranks = CaseRanks(
                    users=file["users"],
                    offsets=file["offsets"],
                    targets=file["targets"],
                    ranks=file["ranks"],
                    num_items=int(file["num_items"]),
                )
                return cls(ranks, str(file["data_hash"]), str(file["protocol"]))
        except FileNotFoundError as error:
            raise SourceError(f"{path}: no such file; evaluate the run first") from error
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise SourceError(f"{path}: not a readable file of ranks ({error}); evaluate the run again") from error
