"""MovieLens ratings by name: downloaded from the publisher, never redistributed.

An event is a rating: value = stars, item attributes = title and genres. Ratings of one user within one second keep the
order of the file, which is an artefact of the rating form (the tie policy of the store).

Source: Harper and Konstan 2015, doi:10.1145/2827872.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from retrank.contract.errors import ConfigError
from retrank.data.archives import extract
from retrank.data.download import RemoteFile
from retrank.data.readers.columns import Column, Columns
from retrank.data.readers.delimited import Delimited
from retrank.data.readers.items_file import ItemsFile
from retrank.data.readers.text_table import TextFormat
from retrank.data.report import RowReport

_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
_FIRST_GENRE = 6


@dataclass(frozen=True)
class _Layout:
    """Files and formats of one generation of MovieLens."""

    ratings: str
    movies: str
    ratings_format: TextFormat
    movies_format: TextFormat
    columns: Columns
    movie_id: Column
    attributes: Mapping[str, Column]


_NUMBERED = Columns(user=1, item=2, value=3, time=4)
_TAB = _Layout(
    "u.data",
    "u.item",
    TextFormat("\t", header=False, quote=None),
    TextFormat("|", header=False, encoding="latin-1", quote=None),
    _NUMBERED,
    1,
    {"title": 2} | {genre: place for place, genre in enumerate(_GENRES, start=_FIRST_GENRE)},
)
_COLONS = TextFormat("::", header=False, encoding="latin-1", quote=None)
_DAT = _Layout("ratings.dat", "movies.dat", _COLONS, _COLONS, _NUMBERED, 1, {"title": 2, "genres": 3})
_CSV = _Layout(
    "ratings.csv",
    "movies.csv",
    TextFormat(),
    TextFormat(),
    Columns(user="userId", item="movieId", value="rating", time="timestamp"),
    "movieId",
    {"title": "title", "genres": "genres"},
)
_LAYOUTS = {"ml-100k": _TAB, "ml-1m": _DAT, "ml-latest-small": _CSV, "ml-20m": _CSV, "ml-32m": _CSV}


@dataclass(frozen=True)
class MovieLens:
    """Reader of one MovieLens release.

    Attributes:
        release: ml-100k, ml-1m, ml-latest-small, ml-20m or ml-32m.
        name: name of the dataset.
        downloads: folder for archives; one that is already there is not fetched again.
        base_url: folder on the publisher's server; `<release>.zip` is fetched from it.
        sha256: expected SHA-256 of the archive; None = check against `<release>.zip.md5` where the publisher has one,
            else record the SHA-256 of the first download.
    """

    release: str
    name: str
    downloads: str
    base_url: str
    sha256: str | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown release.

        Raises:
            ConfigError: listing the known ones.
        """
        if self.release not in _LAYOUTS:
            raise ConfigError(f"data.release is {self.release!r}; expected one of {', '.join(_LAYOUTS)}")

    def sources(self) -> Sequence[Path]:
        """Return ratings and movies, fetched and extracted when they are not there yet.

        Raises:
            DownloadError: the archive could not be fetched, or is not the one expected.
            SourceError: the archive is damaged.
        """
        archive = self._remote().fetch(Path(self.downloads) / f"{self.release}.zip")
        layout = _LAYOUTS[self.release]
        members = [f"{self.release}/{name}" for name in (layout.ratings, layout.movies)]
        return extract(archive, members, Path(self.downloads) / self.release)

    def expected_rows(self) -> int | None:
        """Unknown before the file was read."""
        return None

    def batches(self, report: RowReport) -> Iterator[pa.RecordBatch]:
        """Yield ratings in file order.

        Raises:
            SourceError: the file cannot be read.
        """
        layout, form = _LAYOUTS[self.release], _LAYOUTS[self.release].ratings_format
        path = str(Path(self.downloads) / self.release / layout.ratings)
        reader = Delimited(path, layout.columns, self.name, form.delimiter, form.header, form.encoding, form.quote)
        return reader.batches(report)

    def item_table(self, report: RowReport) -> pa.Table | None:
        """Return `title` and `genres` (joined by |) per movie."""
        layout = _LAYOUTS[self.release]
        path = str(Path(self.downloads) / self.release / layout.movies)
        movies = ItemsFile(path, layout.movie_id, layout.attributes, format=layout.movies_format).read(report)
        return movies if "genres" in movies.column_names else _join_flags(movies)

    def _remote(self) -> RemoteFile:
        url = f"{self.base_url.rstrip('/')}/{self.release}.zip"
        return RemoteFile(url, self.sha256, f"{url}.md5")


def _join_flags(movies: pa.Table) -> pa.Table:
    """Turn the 0/1 columns of ml-100k, one per genre, into the text the later releases use."""
    flags = zip(*(movies[genre].to_pylist() for genre in _GENRES), strict=True)
    joined = ["|".join(genre for genre, flag in zip(_GENRES, row, strict=True) if flag == "1") for row in flags]
    return movies.select(["item_id", "title"]).append_column("genres", pa.array(joined, pa.string()))
