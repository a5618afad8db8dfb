"""The search space: published values, every mistake at once, values that reach their places."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import optuna
import pytest
import yaml

from desed_task.errors import InputError
from local.classes_dict import CLASSES
from local.config import UNREAD_KEYS, load_config
from local.tuning.search_space import Dimension, Space, read_tuning_config, replace_values

ROOT = Path(__file__).resolve().parents[3]
PUBLISHED = ROOT / "confs" / "optuna.yaml"


@pytest.fixture
def written(tmp_path):
    def write(space: dict[str, object], stage: str = "training") -> Path:
        path = tmp_path / "space.yaml"
        path.write_text(yaml.safe_dump({"optuna": {stage: space}}))
        return path

    return write


def test_what_comes_along_starts_from_the_published_values(parity, tmp_path):
    published = json.loads(parity("optuna_values.json").read_text())
    config = load_config(PUBLISHED).dump()
    for section, branch in published.items():
        for key, value in branch.items():
            if f"{section}.{key}" in UNREAD_KEYS or section == "optuna":
                continue
            if key.startswith("eval_folder"):
                value = value.replace("eval21", "eval24")  # the set of this year
            assert config[section][key] == value, f"{section}.{key}"
    assert read_tuning_config(PUBLISHED).n_trials == published["optuna"]["n_trials"]
    # A copy of the published file, which has no space, is tuned in the published space.
    copy = tmp_path / "published.yaml"
    copy.write_text(yaml.safe_dump(published))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert load_config(copy).net.n_layers_RNN == 2
    assert Space.load(copy, "training") == Space.load(PUBLISHED, "training")


def test_the_default_space_is_the_published_one():
    """Upper bounds that the steps do not reach are lowered to the last step."""
    space = {d.path: d for d in Space.load(PUBLISHED, "training").dimensions}
    assert {path: d.choices for path, d in space.items() if d.kind == "categorical"} == {
        "training.gradient_clip": (0, 0.5, 1, 5),
        "net.n_RNN_cell": (128, 192, 256),
        "net.n_layers_RNN": (1, 2),
        "training.n_epochs_warmup": (50, 100),
    }
    drawn = {}
    for path, low, high, step in (
        ("opt.lr", 1e-4, 5e-3, 5e-4),
        ("net.dropout", 0.1, 0.5, 0.1),
        ("net.dropstep_recurrent", 0.0, 0.5, 0.1),
        ("net.dropstep_recurrent_len", 1, 20, 3),
    ):
        whole = isinstance(low, int)
        kind = optuna.distributions.IntDistribution if whole else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            asked = (kind or optuna.distributions.FloatDistribution)(low, high, step=step)
        drawn[path] = (asked.low, asked.high, asked.step)
        found = space.pop(path)
        assert (found.low, pytest.approx(found.high), found.step) == drawn[path]
    medians = Space.load(PUBLISHED, "postprocessing").dimensions
    assert [d.path for d in medians] == [f"net.median_filter.{label}" for label in CLASSES]
    assert {(d.kind, d.low, d.high, d.step) for d in medians} == {("int", 1, 19, 2)}


def test_samples_lie_in_the_space_and_are_clean_numbers():
    space = Space.load(PUBLISHED, "training")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(40):
        trial = study.ask()
        sample = space.sample(trial)
        assert space.overrides(trial.params) == sample
        assert sample["opt.lr"] in {round(1e-4 + n * 5e-4, 10) for n in range(10)}
        assert sample["net.dropstep_recurrent_len"] in range(1, 20, 3)
        seen.add(sample["net.dropout"])
    assert seen == {0.1, 0.2, 0.3, 0.4, 0.5}


def test_logarithms_and_ends():
    one = Dimension("opt.lr", "float", 1e-4, 1e-2, log=True)
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1)).ask()
    assert 1e-4 <= one.sample(trial) <= 1e-2
    assert trial.distributions["opt.lr"].log
    assert one.ends == (1e-4, 1e-2)
    assert Dimension("net.n_RNN_cell", "categorical", choices=(8, 16, 32)).ends == (8, 16, 32)
    assert Dimension("a.b", "float", 0.1, 0.1 + 2 * 0.1, 0.1).ends == (0.1, 0.3)


def test_values_reach_their_places():
    tree = load_config(PUBLISHED).dump()
    changed = replace_values(
        {"net.dropout": 0.3, "net.median_filter.1": 5, "net.median_filter.Speech": 9}, tree
    )
    assert changed["net"]["dropout"] == 0.3
    lengths = changed["net"]["median_filter"]
    assert [lengths[0], lengths[1], lengths[CLASSES.index("Speech")]] == [7, 5, 9]
    assert tree == load_config(PUBLISHED).dump()
    for wrong in ("net.dropot", "nets.dropout", "net.median_filter.99", "net.median_filter.Dgo"):
        with pytest.raises(InputError, match="no such value"):
            replace_values({wrong: 1}, tree)


def test_every_mistake_of_a_space_is_told_at_once(written):
    path = written(
        {
            "net.dropot": {"kind": "float", "low": 0, "high": 0.5},
            "data.fs": {"kind": "int", "low": 1, "high": 2},
            "training.seed": {"kind": "int", "low": 1, "high": 2},
            "net.median_filter.Dgo": {"kind": "int", "low": 1, "high": 3},
            "net.dropout": {"kind": "float", "low": 0.5, "high": 0.1},
            "opt.lr": {"kind": "float", "low": 1e-4, "high": 5e-3, "step": 5e-4},
            "net.specaugm_t_p": {"kind": "float", "low": 0, "high": 1, "log": True, "step": 0.5},
            "net.n_RNN_cell": {"kind": "int", "low": 0.5, "high": 2},
            "net.n_layers_RNN": {"kind": "categorical", "low": 1},
            "net.activation": {"kind": "categorical", "choices": ["glu", "glu"]},
            "training.ema_factor": {"kind": "float", "low": 0.9},
            "training.const_max": {"kind": "float", "low": 1, "high": 2, "choices": [1]},
        }
    )
    with pytest.raises(InputError) as error:
        Space.load(path, "training")
    for text in (
        "net.dropot: no such key in net; did you mean net.dropout?",
        "data.fs: data is not a section that can be tuned; use one of training,",
        "training.seed: cannot be tuned: it determines which clips are held out",
        "net.median_filter.Dgo: 'Dgo' is not a class; * means all; known: Alarm_bell_ringing,",
        "net.dropout: low (0.5) must be below high (0.1)",
        "opt.lr: steps of 0.0005 from 0.0001 do not reach high (0.005); give 0.0046 or 0.0051",
        "net.specaugm_t_p: with log, low (0) must be above 0",
        "net.specaugm_t_p: log and step exclude each other",
        "net.n_RNN_cell: int needs whole numbers",
        "net.n_layers_RNN: a categorical value needs choices",
        "net.activation: a choice occurs twice",
        "training.ema_factor: float needs low and high",
        "training.const_max: float has no choices; leave it out",
    ):
        assert text in str(error.value)


def test_unknown_keys_and_kinds_of_a_space_are_named(written, tmp_path):
    path = written({"opt.lr": {"kind": "flaot", "low": 0, "hihg": 1}})
    with pytest.raises(InputError) as error:
        Space.load(path, "training")
    assert "optuna.training.opt.lr.kind" in str(error.value)
    assert "optuna.training.opt.lr.hihg: unknown key (value 1); did you mean high?" in str(
        error.value
    )
    with pytest.raises(InputError, match="no such configuration file"):
        Space.load(tmp_path / "none.yaml", "training")
    with pytest.raises(InputError, match="names nothing to tune"):
        Space.load(written({}), "training")


def test_values_that_the_configuration_refuses_are_told_at_once(written):
    space = {
        "net.dropout": {"kind": "float", "low": 0.0, "high": 1.0},
        "training.n_epochs_warmup": {"kind": "categorical", "choices": [2, 5000]},
        "net.aggregation_type": {"kind": "categorical", "choices": ["pool1d", "mean"]},
    }
    path = written(space)
    with pytest.raises(InputError) as error:
        Space.load(path, "training").check(load_config(PUBLISHED), str(path))
    text = str(error.value)
    assert text.count("\n") == 3
    assert "net.dropout = 1.0: " in text and "less than 1" in text
    assert "n_epochs_warmup = 5000: training: n_epochs_warmup (5000) is more than" in text
    assert "net.aggregation_type = mean: " in text
    for name in ("optuna", "mini"):
        conf = ROOT / "confs" / f"{name}.yaml"
        Space.load(conf, "training").check(load_config(conf), name)


def test_spaces_are_told_apart():
    space = Space.load(PUBLISHED, "training")
    assert space.describe() == Space.load(PUBLISHED, "training").describe()
    assert space.describe() != Space.load(ROOT / "confs" / "mini.yaml", "training").describe()
    assert json.loads(json.dumps(space.describe())) == space.describe()
