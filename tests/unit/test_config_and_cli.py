"""Composing a configuration and running a command: what a person sees when a key is wrong."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from retrank.cli import main
from retrank.config import compose, configs_dir, instantiate, resolve
from retrank.contract.errors import ConfigError, DataError

ROOTS = sorted(path.stem for path in configs_dir().glob("*.yaml"))
EXPERIMENTS = sorted(path.stem for path in (configs_dir() / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("root", ROOTS)
def test_every_root_composes(root: str) -> None:
    assert compose(root)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_resolves(experiment: str) -> None:
    for_any_store = ["store=anywhere"] if experiment == "auto" else []
    if experiment.endswith("_ranker"):
        assert resolve(compose("rank", [f"experiment={experiment}", "run=anywhere"]))
    else:
        assert resolve(compose("train", [f"experiment={experiment}", *for_any_store]))


GROUPS = [
    *(("train", group) for group in ("split", "model", "loss", "optim", "trainer", "logger", "context", "experiment")),
    ("ingest", "data"), ("ingest", "users"), ("sweep", "sweep"), ("evaluate", "split"),
    ("export", "index"), ("export", "sealing"),
    ("serve", "serving"), ("serve", "guard@serving.guard"), ("serve", "telemetry@serving.telemetry"),
    ("rank", "sources"), ("rank", "second_stage@ranker"),
]  # fmt: skip


@pytest.mark.parametrize(("root", "group"), GROUPS)
def test_every_choice_of_a_group_composes(root: str, group: str) -> None:
    choices = sorted(path.stem for path in (configs_dir() / group.partition("@")[0]).glob("*.yaml"))
    assert choices
    for choice in choices:
        of = "rank" if choice.endswith("_ranker") else root
        assert compose(of, [f"{group}={choice}"])


def test_every_group_belongs_to_a_root() -> None:
    folders = {path.name for path in configs_dir().iterdir() if path.is_dir()}
    assert folders - {group.partition("@")[0] for _, group in GROUPS} == {"paths"}


@pytest.mark.parametrize("root", ROOTS)
def test_an_unknown_key_is_refused_by_name(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = main([root, "no_such_key=1"])
    said = capsys.readouterr().err
    assert status == 2
    assert "no_such_key" in said
    assert f"configs/{root}.yaml" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("root", ROOTS)
def test_an_unknown_key_that_is_added_is_not_ignored(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([root, "+no_such_key=1"]) == 2
    assert f"configs/{root}.yaml has no setting no_such_key" in capsys.readouterr().err


def test_an_unknown_key_of_every_trial_is_not_ignored(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    told = ["name=x", f"store={tmp_path}", f"paths.root={tmp_path}", "+no_such_key=1"]
    assert main(["train", "--multirun", *told, "seed=1,2"]) == 2
    assert "configs/train.yaml has no setting no_such_key" in capsys.readouterr().err


def test_values_of_another_kind_that_mean_something_pass() -> None:
    told = [
        "experiment=auto",
        "store=s",
        "model.width=from_data",
        "trainer.gradient_clip=null",
        "optim.warmup_steps=1.5",
    ]
    assert compose("train", told)["model"]["width"] == "from_data"
    assert (
        compose("ingest", ["data=csv", "data.path=p", "data.columns.user=1", "out=3"])["data"]["columns"]["user"] == 1
    )


def test_an_error_stands_behind_what_was_printed_before(tmp_path: Path) -> None:
    program = (
        "import sys; from retrank import cli\n"
        "def act(_): print('a screen of settings'); raise cli.RetrankError('this is wrong')\n"
        "cli._load = lambda _: act\n"
        f"sys.exit(cli.main(['recommend', 'bundle={tmp_path}']))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.stdout.splitlines() == ["a screen of settings", "retrank recommend: this is wrong"]


def test_what_a_reader_takes_by_name_can_be_added() -> None:
    assert compose("recommend", ["+context.country=DE"])["context"] == {"country": "DE"}
    assert compose("ingest", ["data=csv", "users=file", "+users.attributes.tier=t"])["users"]["attributes"]["tier"]


def test_a_mistyped_key_does_not_wait_for_torch() -> None:
    program = (
        "import sys; from retrank.cli import main; status = main(['sweep', 'name=x', 'store=y', 'modle=sasrec']);"
        "sys.exit(status if not {'torch', 'optuna', 'pyarrow'} & sys.modules.keys() else 99)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "did you mean model?" in done.stderr


def test_a_context_that_is_no_single_value_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", "bundle=b", "+context.country=[DE]"]) == 2
    assert "context/country: expected true, false, a finite number" in capsys.readouterr().err


def test_an_unknown_choice_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="online_retail"):
        compose("ingest", ["data=nothing_like_this"])


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(ConfigError, match="no_such_class"):
        instantiate({"_target_": "retrank.no_such_class"})


def test_a_refusing_constructor_names_the_argument() -> None:
    with pytest.raises(ConfigError, match="no_such_argument"):
        instantiate({"_target_": "pathlib.PurePath", "no_such_argument": 1})


def test_an_error_of_ours_passes_through_instantiation_unchanged() -> None:
    node = {"_target_": "retrank.contract.sequences.Sequences.from_lists", "lists": [[1, 2]], "times": [[1]]}
    with pytest.raises(DataError, match="one per event"):
        instantiate(node)


def test_a_missing_interpolation_is_refused() -> None:
    config = compose("ingest", ["out=${nowhere.at_all}"])
    with pytest.raises(ConfigError, match="nowhere"):
        resolve(config)


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_the_commands(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([flag]) == 0
    assert "retrank COMMAND" in capsys.readouterr().out


def test_help_of_a_command_prints_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ingest", "--help"]) == 0
    assert "out:" in capsys.readouterr().out


def test_an_unknown_command_exits_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ingets"]) == 2
    assert "expected one of ingest" in capsys.readouterr().err


def test_a_missing_source_exits_with_two_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "store"
    status = main(["ingest", "data=csv", f"data.path={tmp_path / 'none.csv'}", f"out={out}"])
    assert status == 2
    assert "none.csv" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("joined", [False, True])
def test_a_folder_of_ones_own_is_searched_too(joined: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "my_shop.yaml").write_text("name: my_shop\nsource:\n  _target_: no.such.Reader\n")
    named = [f"--config-dir={tmp_path}"] if joined else ["--config-dir", str(tmp_path)]
    assert main(["ingest", "data=my_shop", *named]) == 2
    assert "no.such.Reader" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--config-dir"], ["--config-dir", "no-such-folder"], ["--config-dir="]])
def test_a_folder_that_is_not_there_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ingest", *words]) == 2
    assert "expected a folder after it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "trainer.max_epoch=3"], "did you mean trainer.max_epochs"),
        (["train", "trainer.max_epoch=3"], "`retrank train --help` lists the keys"),
        (["ingest", "data.delimiter=;"], "quote twice what is not a plain word"),
        (["train"], "name has no value; set name=..."),
        (["train", "name=x", "store=y", "model=sasrek"], "sasrec_classic, two_tower; did you mean sasrec?"),
        (["train", "experimnt=auto"], "did you mean experiment?"),
        (["ingest", "data=csv", "data.colums.user=c"], "did you mean data.columns.user"),
        (["ingest", "+user=file"], "has no setting user; did you mean users?"),
        (["export", "run=r", "+rankr=b"], "has no setting rankr; did you mean ranker?"),
        (["rank", "run=r", "+ranker.modle=b"], "has no setting ranker.modle; did you mean ranker.model"),
        (["sweep", "name=x", "store=y", "+foo=1"], "configs/sweep.yaml has no setting foo"),
        (["serve", "bundle=b", "+servng.replicas=2"], "has no setting servng; did you mean serving"),
        (["ingest", "data=csv", "data.path=p", "users.path=u.csv"], "users is empty, choose first: users=file"),
        (["ingest", "data=csv", "data.path=p", "+users.path=u.csv"], "name it too: users=file"),
        (["ingest", "data.name=2024"], "expected a text, quoted twice: 'data.name=\"2024\"'"),
        (["train", "name=x", "store=y", "trainer.max_epochs=many"], "is 'many'; expected a number, such as 100"),
        (["train", "name=x", "store=y", "seed=one"], "seed is 'one'; expected a number, such as 1"),
        (["train", "name=x", "store=y", "trainer.progress=3"], "trainer.progress is 3; expected true or false"),
        (["train", "name=x", "store=y", "context.fields=hour"], "expected a list: 'context.fields=[hour]'"),
        (["recommend", "bundle=b", "context.hour=3"], "add an entry with a plus sign: +context.hour=..."),
    ],
)
def test_mistakes_at_the_shell_get_advice(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert said in capsys.readouterr().err


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "runs/a/checkpoints/last.ckpt")

    monkeypatch.setattr("retrank.serving.ask.run", full)
    assert main(["recommend", "bundle=b"]) == 2
    assert "cannot write: [Errno 28] No space left on device" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_ends_a_command_without_a_word() -> None:
    program = "import sys, time; time.sleep(0.2); from retrank.cli import main; sys.exit(main(['--help']))"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(60) == 141
