"""A run that is refused before its first step leaves nothing; what others put there, or a run learned, stays."""

from pathlib import Path

import pytest

from retrank.training.litter import no_litter


def _begin(run_dir: Path, files: tuple[str, ...]) -> None:
    with no_litter(run_dir):
        for name in files:
            (run_dir / name).parent.mkdir(parents=True, exist_ok=True)
            (run_dir / name).write_text("")
        raise KeyboardInterrupt


def _fail(run_dir: Path, *files: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        _begin(run_dir, files)


def test_settings_alone_go_with_the_folders_that_were_made_for_them(tmp_path: Path) -> None:
    _fail(tmp_path / "runs" / "shop" / "first", "config.yaml", "item_encoding.json")
    assert list(tmp_path.iterdir()) == []


def test_folders_that_others_use_stay(tmp_path: Path) -> None:
    (tmp_path / "runs" / "shop" / "other").mkdir(parents=True)
    _fail(tmp_path / "runs" / "shop" / "first", "config.yaml")
    assert [path.name for path in (tmp_path / "runs" / "shop").iterdir()] == ["other"]


@pytest.mark.parametrize("name", ["checkpoints/last.ckpt", "logs/csv/version_0/metrics.csv", "notes.txt"])
def test_what_a_run_learned_or_logged_stays(tmp_path: Path, name: str) -> None:
    _fail(tmp_path / "first", "config.yaml", name)
    assert (tmp_path / "first" / name).is_file()


def test_a_folder_that_was_there_before_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    _fail(tmp_path / "first", "config.yaml")
    assert (tmp_path / "first" / "config.yaml").is_file()


def test_a_run_that_goes_well_keeps_its_folder(tmp_path: Path) -> None:
    with no_litter(tmp_path / "first"):
        (tmp_path / "first").mkdir()
        (tmp_path / "first" / "config.yaml").write_text("")
    assert (tmp_path / "first" / "config.yaml").is_file()
