"""Taking named members out of a zip archive, and nothing else."""

import shutil
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from retrank.contract.errors import SourceError


def extract(archive: Path, members: Sequence[str], directory: Path) -> list[Path]:
    """Return the extracted files, one per member, named by the last part of the member's path.

    The paths inside the archive never decide where something is written, and a file appears only when it is complete
    and its CRC was right. Files of the right size that are there already are kept.

    Raises:
        SourceError: the archive is damaged or lacks a member.
    """
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(archive) as source:
            return [_extract_one(source, member, directory) for member in members]
    except KeyError as error:
        raise SourceError(f"{archive}: {error.args[0]}; is it the right archive?") from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise SourceError(f"{archive}: damaged ({error}); delete it to fetch it again") from error


def _extract_one(source: zipfile.ZipFile, member: str, directory: Path) -> Path:
    target = directory / Path(member).name
    if target.is_file() and target.stat().st_size == source.getinfo(member).file_size:
        return target
    part = target.with_name(target.name + ".part")
    with source.open(member) as stream, part.open("wb") as copy:
        shutil.copyfileobj(stream, copy)
    part.replace(target)
    return target
