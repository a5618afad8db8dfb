"""The configuration: published values, overrides, and every mistake reported at once."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import yaml

from desed_task.errors import InputError
from local.classes_dict import CLASSES
from local.config import (
    SHIPPED,
    UNREAD_KEYS,
    check_config,
    find_shipped,
    load_config,
)
from local.plan.reading import PLANS
from local.prep.download.sources import load_sources
from local.prep.maestro_soft_labels import read_soft_labels
from local.submission.file_checks import SCORE_COLUMNS, table_fault
from local.task.reading import DEFAULT_TASK
from local.task.shipped_files import CONFIGURATIONS

ROOT = Path(__file__).resolve().parents[2]
# The table of sources and plans have a shape, and tests, of their own.
MINI = ROOT / "confs" / "mini.yaml"
OTHERS = {ROOT / "confs" / name for name in ("sources.yaml", *PLANS)}
CONFIGS = sorted(set(ROOT.glob("confs/*.yaml")) - OTHERS)


def test_the_configs_are_found():
    assert {"pretrained", "mini"} <= {path.stem for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_loads_without_warnings(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_config(path)


def test_a_copy_of_the_published_yaml_loads_with_one_warning_a_key(parity, tmp_path):
    published = json.loads(parity("pretrained_values.json").read_text())
    copy = tmp_path / "published.yaml"
    copy.write_text(yaml.safe_dump(published))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        config = load_config(copy)
    unread = {f"{s}.{k}" for s, branch in published.items() for k in branch} & set(UNREAD_KEYS)
    assert len(unread) >= 6
    assert len(caught) == len(unread)
    for key in unread:
        assert sum(f"reads {key}:" in str(warning.message) for warning in caught) == 1
    for section, branch in config.dump().items():
        for key, value in published.get(section, {}).items():
            assert f"{section}.{key}" in unread or branch[key] == value
    assert config == load_config(ROOT / "confs" / "pretrained.yaml")


def test_all_mistakes_are_reported_at_once_with_their_paths():
    overrides = [
        "net.dropot=0.1",
        "net.dropout=lots",
        "net.median_filter=[3, 9]",
        "training.n_epochs=1",
        "energy.country_iso_code=France",
        "feet.n_mels=1",
    ]
    with pytest.raises(InputError) as error:
        load_config(ROOT / "confs" / "mini.yaml", overrides)
    text = str(error.value)
    assert "net.dropot: unknown key (value 0.1); did you mean dropout?" in text
    assert "net.dropout: Input should be a valid number" in text and "'lots'" in text
    assert f"net.median_filter: has 2 lengths; give one for each of {len(CLASSES)}" in text
    assert "training: n_epochs_warmup" in text
    assert "energy.country_iso_code" in text and "feet: unknown key" in text


def test_an_override_changes_one_value():
    base = load_config(ROOT / "confs" / "mini.yaml")
    changed = load_config(ROOT / "confs" / "mini.yaml", ["opt.lr=1e-4", "training.mixup=null"])
    assert changed.opt.lr == 1e-4 and changed.training.mixup is None
    assert changed.net == base.net


@pytest.mark.parametrize("text", ["net.dropout", "dropout=1", "=1", "net.=1", "net.dropout=["])
def test_a_malformed_override_is_named(text):
    with pytest.raises(InputError, match="--set"):
        load_config(ROOT / "confs" / "mini.yaml", [text])


def test_values_are_final():
    config = load_config(ROOT / "confs" / "mini.yaml")
    with pytest.raises(ValueError, match="frozen"):
        config.net.dropout = 0.9


def test_rules_across_fields():
    tree = load_config(ROOT / "confs" / "mini.yaml").dump()
    tree["data"]["fs"] = 8000
    with pytest.raises(InputError, match=r"data.fs \(8000\) and feats.sample_rate \(16000\)"):
        check_config(tree, "here")
    for override, message in (
        ("data.net_subsample=8", "net.pooling averages 4 frames into one, data.net_subsample is 8"),
        ("feats.n_mels=64", "net.pooling reduces 128 mel bands to one, feats.n_mels is 64"),
        ("feats.f_max=9000", r"<= sample_rate / 2 \(8000.0\) must hold"),
    ):
        with pytest.raises(InputError, match=message):
            load_config(ROOT / "confs" / "pretrained.yaml", [override])
    with pytest.raises(InputError, match=r"validation_interval \(99\) is more than n_epochs"):
        load_config(ROOT / "confs" / "mini.yaml", ["training.validation_interval=99"])
    tree = load_config(ROOT / "confs" / "mini.yaml").dump()
    tree["net"]["aggregation_type"] = "global"
    with pytest.raises(InputError, match="global goes with global"):
        check_config(tree, "here")


@pytest.mark.parametrize(
    "values",
    [
        ["net.kernel_size=[3,5,3,3]"],
        ["net.stride=[1,2,1,1]"],
        ["net.padding=[1,-1,1,1]"],
        ["net.kernel_size=[3,4,3,3]", "net.padding=[1,2,1,1]"],
    ],
)
def test_convolutions_that_change_the_size_are_named(values):
    with pytest.raises(InputError, match=r"net: block 1 has kernel_size .*; give stride 1"):
        load_config(ROOT / "confs" / "mini.yaml", values)


def test_wider_convolutions_that_keep_the_size_are_taken():
    values = ["net.kernel_size=[3,5,7,1]", "net.padding=[1,2,3,0]"]
    assert load_config(ROOT / "confs" / "mini.yaml", values).net.kernel_size == (3, 5, 7, 1)


@pytest.mark.parametrize("content", [None, "a: [", "- 1", ""])
def test_a_file_that_is_no_configuration(content, tmp_path):
    path = tmp_path / "x.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=r"x.yaml"):
        load_config(path)


def test_a_key_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "twice.yaml"
    text = (ROOT / "confs" / "mini.yaml").read_text()
    path.write_text(f"{text}training:\n  n_epochs: 1\n")
    with pytest.raises(InputError, match=r"'training' appears in line \d+ and again in line \d+"):
        load_config(path)
    path.write_text(text.replace("  lr: 0.002\n", "  lr: 0.002\n  lr: 0.1\n"))
    with pytest.raises(InputError, match=r"'lr' appears in line \d+ and again in line \d+"):
        load_config(path)


def test_an_editor_may_have_put_a_byte_order_mark(tmp_path):
    path = tmp_path / "windows.yaml"
    text = (ROOT / "confs" / "mini.yaml").read_text().replace("\n", "\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load_config(path) == load_config(ROOT / "confs" / "mini.yaml")


def test_a_dump_can_be_loaded_again():
    config = load_config(ROOT / "confs" / "mini.yaml")
    assert check_config(config.dump(), "dump") == config


# ---- supplied files


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["mini", "mini.yaml", "confs/mini.yaml", "./confs/mini.yaml"])
def test_supplied_files_are_found_from_anywhere(here, name, capsys):
    assert find_shipped(name) == SHIPPED / "mini.yaml"
    given = name.removeprefix("./")
    assert capsys.readouterr().out == (
        f"using {SHIPPED / 'mini.yaml'} (there is no {given} in {here})\n"
    )
    # A folder of that name is none of the files.
    Path(name).mkdir(parents=True)
    assert find_shipped(name) == SHIPPED / "mini.yaml"


@pytest.mark.parametrize("name", ["urban_sed", "urban_sed.yaml", "confs/tasks/urban_sed.yaml"])
def test_configurations_of_tasks_are_found_from_anywhere(here, name):
    assert find_shipped(name) == SHIPPED / "tasks" / "urban_sed.yaml"
    mine = here / "confs" / "tasks" / "urban_sed.yaml"
    mine.parent.mkdir(parents=True)
    mine.touch()
    assert find_shipped(name).samefile(mine)


def test_a_description_is_no_configuration():
    with pytest.raises(InputError, match=r"describes a task and is no configuration; give it with"):
        load_config(SHIPPED / "tasks" / f"{DEFAULT_TASK}.yaml")


def test_a_file_of_the_users_takes_precedence(here, capsys):
    mine = here / "confs" / "mini.yaml"
    mine.parent.mkdir()
    mine.touch()
    for name in ("confs/mini.yaml", "./confs/mini.yaml", str(mine)):
        assert find_shipped(name).samefile(mine)
    assert capsys.readouterr().out == ""
    # Another path than the given one is said.
    assert find_shipped("mini").samefile(mine)
    assert capsys.readouterr().out == f"using confs/mini.yaml (there is no mini in {here})\n"
    (here / "mini.yaml").touch()
    assert find_shipped("mini").samefile(here / "mini.yaml")
    assert find_shipped("mini.yaml") == Path("mini.yaml")


@pytest.mark.parametrize(
    "name", ["maxi", "other/mini.yaml", "mini.yml", "sources", "confs", "", "../confs/mini.yaml"]
)
def test_what_is_not_supplied_is_refused_with_what_is(here, name):
    (here / "confs").mkdir()
    with pytest.raises(InputError) as error:
        load_config(name)
    told = str(error.value)
    assert told.startswith(f"{name}: no such configuration file")
    assert f"(looked up from {here}); supplied: confs/pretrained.yaml, confs/mini.yaml" in told


def test_an_absolute_path_is_not_replaced(here):
    with pytest.raises(InputError, match=r"mini\.yaml: no such configuration file; supplied: "):
        load_config(here / "confs" / "mini.yaml")


def test_every_file_of_confs_is_known():
    there = {path.relative_to(SHIPPED).as_posix() for path in SHIPPED.rglob("*.yaml")}
    assert there == {*CONFIGURATIONS, "sources.yaml", *PLANS, f"tasks/{DEFAULT_TASK}.yaml"}
    assert load_config("pretrained") == load_config(SHIPPED / "pretrained.yaml")


def test_the_table_of_sources_is_found_too(here, capsys):
    load_sources()
    assert f"using {SHIPPED / 'sources.yaml'} " in capsys.readouterr().out
    with pytest.raises(InputError, match=r"no such table of sources \(.*confs/sources\.yaml$"):
        load_sources("mini")


@pytest.mark.parametrize(
    ("encoding", "assumed"),
    [("utf-8-sig", ""), ("utf-16", ""), ("utf-16-le", "UTF-16"), ("cp1252", "Windows-1252")],
)
@pytest.mark.parametrize("kind", ["configuration", "sources", "soft labels", "scores"])
def test_text_in_other_encodings_is_read_with_a_word(kind, encoding, assumed, tmp_path):
    """Every kind of text that a user may have edited, not only tables."""
    path = tmp_path / "größe.txt"
    origin, read = {
        "configuration": (ROOT / "confs/mini.yaml", load_config),
        "sources": (ROOT / "confs/sources.yaml", load_sources),
        "soft labels": (None, read_soft_labels),
        "scores": (None, lambda path: table_fault(path, 0.064, 0.064)),
    }[kind]
    texts = {
        "soft labels": "0\t1\tgrüße\t0.5\n",
        "scores": "\t".join(SCORE_COLUMNS) + "\n" + "\t".join(["0", "0.064", *["0.5"] * 27]) + "\n",
    }
    text = texts.get(kind) or f"# Grüße\n{origin.read_text(encoding='utf-8')}"
    text = text.encode(encoding, "replace").decode(encoding)
    path.write_text(text, encoding="utf-8")
    expected = read(path)
    path.write_bytes(text.encode(encoding))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert repr(read(path)) == repr(expected)
    named = [str(one.message) for one in told if "read as" in str(one.message)]
    # ASCII is the same in Windows-1252.
    wanted = bool(assumed) and not (text.isascii() and encoding == "cp1252")
    assert len(named) == wanted
    assert all(str(path) in one and assumed in one for one in named)


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("training.mixup=None", "training", "mixup", None),
        ("training.mixup=none", "training", "mixup", None),
        ("training.mixup=off", "training", "mixup", None),
        ("training.mixup=null", "training", "mixup", None),
        ("data.packed_dir=None", "data", "packed_dir", None),
        ("training.batch_size=8,5,6,3,2", "training", "batch_size", (8, 5, 6, 3, 2)),
        ("training.batch_size=(8, 5, 6, 3, 2)", "training", "batch_size", (8, 5, 6, 3, 2)),
        ("training.batch_size=8, 5, 6, 3, 2", "training", "batch_size", (8, 5, 6, 3, 2)),
        ("scaler.dims=2", "scaler", "dims", (2,)),
        ("scaler.dims=1,2", "scaler", "dims", (1, 2)),
        (
            "data.keep_clips_without_events=devtest",
            "data",
            "keep_clips_without_events",
            ("devtest",),
        ),
        ("logging.loggers=tensorboard,mlflow", "logging", "loggers", ("tensorboard", "mlflow")),
    ],
)
def test_what_people_write_for_nothing_and_for_lists(override, section, key, value):
    config = load_config(MINI, [override])
    assert getattr(getattr(config, section), key) == value
    assert check_config(config.dump(), "again") == config


def test_a_file_may_spell_them_so_too(tmp_path):
    tree = yaml.safe_load(MINI.read_text())
    tree["training"].update(mixup="None", batch_size="8,5,6,3,2")
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(tree))
    training = load_config(tmp_path / "conf.yaml").training
    assert (training.mixup, training.batch_size) == (None, (8, 5, 6, 3, 2))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.batch_size=[8,", r"write a list without spaces, or in quotes"),
        ("training.batch_size=8,5", r"training\.batch_size: has 2 numbers; give one for each of 5"),
        ("training.batch_size=many", r"training\.batch_size"),
        ("opt.lr=None", r"opt\.lr: .*\(value 'None'\)"),
        ("training.mixup=0", r"training\.mixup"),
        ("logging.loggers=comet", r"logging\.loggers\.0: .*'tensorboard', 'wandb' or 'mlflow'"),
    ],
)
def test_what_stays_wrong_is_named(override, message):
    with pytest.raises(InputError, match=message):
        load_config(MINI, [override])
