"""A bundle is opened as it was sealed, or not at all."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from retrank.contract.bundle import FILES, INDEX, ITEM_VECTORS, MANIFEST, RANKER_FILES, seal, seal_files, verify
from retrank.contract.errors import BundleError, ChecksumError, FormatError
from retrank.contract.files import POINTER, current, staging


@pytest.fixture
def root(tiny_bundle: Path, tmp_path: Path) -> Path:
    """Return the root of a copy that may be spoiled."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundles"))


def _flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0x01
    path.write_bytes(content)


@pytest.mark.parametrize("name", RANKER_FILES)
def test_the_second_stage_is_sealed_file_by_file(ranked_bundle: Path, tmp_path: Path, name: str) -> None:
    root = Path(shutil.copytree(ranked_bundle, tmp_path / "bundles"))
    verify(root)
    path = current(root) / name
    _flip(path, path.stat().st_size // 2)
    with pytest.raises(ChecksumError, match=name.replace(".", r"\.")):
        verify(root)
    path.unlink()
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        verify(root)


def test_a_ranker_slipped_into_a_bundle_without_one_is_refused(root: Path, ranked_bundle: Path) -> None:
    shutil.copy(current(ranked_bundle) / RANKER_FILES[0], current(root) / RANKER_FILES[0])
    with pytest.raises(BundleError, match=r"were not sealed with the bundle"):
        verify(root)


def test_an_untouched_bundle_opens_by_its_root_and_by_its_folder(root: Path) -> None:
    by_root = verify(root)
    assert verify(by_root.directory) == by_root
    assert by_root.directory == root / by_root.bundle_id
    assert sorted(path.name for path in by_root.directory.iterdir()) == sorted([*FILES, MANIFEST])
    assert by_root.path(INDEX).is_file()


def test_a_copy_of_the_folder_alone_opens(root: Path, tmp_path: Path) -> None:
    directory = current(root)
    assert verify(Path(shutil.copytree(directory, tmp_path / "elsewhere" / directory.name))).bundle_id == directory.name


@pytest.mark.parametrize("position", ["first", "middle", "last"])
@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_flipped_bit_is_refused_in_every_file(root: Path, name: str, position: str) -> None:
    path = current(root) / name
    size = path.stat().st_size
    _flip(path, {"first": 0, "middle": size // 2, "last": size - 1}[position])
    with pytest.raises(ChecksumError) as refused:
        verify(root)
    assert name in str(refused.value)
    assert str(current(root)) in str(refused.value)
    assert any(advice in str(refused.value) for advice in ("copy the bundle again", "export the bundle again"))


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_truncated_file_is_refused(root: Path, name: str) -> None:
    path = current(root) / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ChecksumError, match=name.replace(".", r"\.")):
        verify(root)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_missing_file_is_refused(root: Path, name: str) -> None:
    (current(root) / name).unlink()
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        verify(root)


@pytest.mark.parametrize("name", ["extra.txt", ".hidden", "nested"])
def test_a_file_that_was_not_sealed_is_refused(root: Path, name: str) -> None:
    target = current(root) / name
    target.mkdir() if name == "nested" else target.write_text("stowaway")
    with pytest.raises(BundleError, match=rf"\['{name}'\] were not sealed"):
        verify(root)


@pytest.mark.parametrize("name", [ITEM_VECTORS, MANIFEST])
def test_a_link_is_refused_even_to_equal_bytes(root: Path, tmp_path: Path, name: str) -> None:
    path = current(root) / name
    outside = tmp_path / name
    path.rename(outside)
    path.symlink_to(outside)
    with pytest.raises(BundleError, match=rf"\['{name}'\] are symbolic links"):
        verify(root)


def test_a_link_in_place_of_the_bundle_is_refused(root: Path, tmp_path: Path) -> None:
    directory = current(root)
    directory.rename(tmp_path / "moved")
    directory.symlink_to(tmp_path / "moved")
    with pytest.raises(BundleError, match="is a symbolic link"):
        verify(root)


def test_a_renamed_bundle_is_refused(root: Path) -> None:
    current(root).rename(root / "best")
    (root / POINTER).write_text("best\n")
    with pytest.raises(ChecksumError, match="the folder was renamed"):
        verify(root)


@pytest.mark.parametrize("pointer", ["../outside", "..", "0000000000000000", ""])
def test_a_pointer_that_leads_elsewhere_is_refused(root: Path, tmp_path: Path, pointer: str) -> None:
    shutil.copytree(current(root), tmp_path / "outside")
    (root / POINTER).write_text(pointer)
    with pytest.raises(BundleError, match="no bundle to open"):
        verify(root)


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from retrank.contract import bundle, files
root = Path({root!r})
old = bundle.verify(root)
setattr({where}, lambda *arguments: os.kill(os.getpid(), signal.SIGKILL))
with files.staging(root) as staged:
    for name in bundle.FILES:
        shutil.copy(old.path(name), staged / name)
    bundle.seal(staged, old.manifest.model_copy(update=dict(run_id="newer")), root)
"""


@pytest.mark.parametrize("where", ["files, '_sync'", "files, 'point_at'", "files.os, 'fdopen'", "bundle, 'publish'"])
def test_a_writer_killed_at_any_moment_leaves_the_old_bundle_current(root: Path, where: str) -> None:
    old = verify(root)
    program = KILLED.format(root=str(root), where=where)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert verify(root) == old


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is this a bundle"):
        verify(tmp_path)
    with pytest.raises(BundleError, match="no such directory"):
        verify(tmp_path / "nothing")


def _resealed(root: Path, change: Callable[[dict[str, object]], object]) -> Path:
    """Change the manifest and rename the folder to its new hash, as somebody who knows the format could."""
    directory = current(root)
    manifest = json.loads((directory / MANIFEST).read_text())
    change(manifest)
    (directory / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ChecksumError) as refused:
        verify(root)
    new_name = str(refused.value).split("its hash is ")[1].split(" ")[0]
    directory.rename(root / new_name)
    (root / POINTER).write_text(new_name)
    return root


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: manifest.update(format_version=6, novelty=True), "bundle format 6, this version reads 5"),
        (lambda manifest: manifest.update(format_version=0), "bundle format 0, this version reads 5"),
        (lambda manifest: manifest.update(format_version=4), "bundle format 4, this version reads 5; export it again"),
        (lambda manifest: manifest.pop("format_version"), "field 'format_version'"),
        (lambda manifest: manifest.update(surprise=1), "field 'surprise'"),
        (lambda manifest: manifest["encoder"].pop("width"), r"field 'encoder\.width'"),
        (lambda manifest: manifest["files"].pop(INDEX), "the manifest lists"),
        (lambda manifest: manifest["files"].update({"../../escape": manifest["files"][INDEX]}), "the manifest lists"),
    ],
)
def test_a_manifest_of_another_shape_is_refused(
    root: Path, change: Callable[[dict[str, object]], object], message: str
) -> None:
    with pytest.raises(FormatError, match=message):
        verify(_resealed(root, change))


def test_a_manifest_that_is_not_json_is_refused(root: Path) -> None:
    (current(root) / MANIFEST).write_bytes(b"\xff\x00 not json")
    with pytest.raises(ChecksumError, match=r"manifest\.json"):
        verify(root)


def test_an_incomplete_bundle_cannot_be_sealed(root: Path) -> None:
    (current(root) / INDEX).unlink()
    with pytest.raises(BundleError, match=r"missing \['items\.faiss'\]"):
        seal_files(current(root))


def test_a_manifest_that_would_not_read_back_is_not_sealed(root: Path) -> None:
    sealed = verify(root)
    metrics = sealed.manifest.metrics.model_copy(update={"values": {"ndcg@10": float("nan")}})
    with staging(root) as staged, pytest.raises(FormatError, match=r"metrics\.values\.ndcg@10"):
        seal(staged, sealed.manifest.model_copy(update={"metrics": metrics}), root)
    assert verify(root) == sealed


def test_sealing_the_same_content_twice_keeps_one_bundle(root: Path) -> None:
    sealed = verify(root)
    with staging(root) as staged:
        for name in FILES:
            shutil.copy(sealed.path(name), staged / name)
        again = seal(staged, sealed.manifest, root)
    assert again.directory == sealed.directory
    assert sorted(path.name for path in root.iterdir()) == sorted([sealed.bundle_id, POINTER])
