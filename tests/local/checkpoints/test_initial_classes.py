"""Initial weights from a checkpoint with other classes, class by class."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from desed_task.checkpoints.safe_load import load_safely
from desed_task.errors import InputError
from desed_task.published_classes import CLASSES
from local.checkpoints.changes import compare
from local.checkpoints.given import with_init_classes
from local.checkpoints.initial_weights import load_initial_weights, with_initial_weights
from local.checkpoints.restore import detector_spec
from local.checkpoints.tasks.class_names import parse_init_classes
from local.config import RecipeConfig, check_config, load_config
from local.sed_trainer_pretrained import SEDTask4
from tests.desed_task.checkpoints.example_checkpoints import published

MINI = Path(__file__).resolve().parents[3] / "confs" / "mini.yaml"
SMALL = ["net.nb_filters=[4, 4, 4, 8]", "net.n_RNN_cell=8"]
HEADS = [f"{layer}.{kind}" for layer in ("dense", "dense_softmax") for kind in ("weight", "bias")]
ODD = ("Grüße, „Chöre“/laut", "a=b", "🎺", "x" * 200, "it's")


def of_classes(*classes: str, **net) -> RecipeConfig:
    """A small network for a task of one corpus with these classes."""
    tree = load_config(MINI, SMALL).dump()
    corpus = {"audio": "a", "table": "t.tsv", "rows": 2, "split": {"validation": 0.5, "test": 0.25}}
    scored = {"events": {"validation": "own", "test": "own"}}
    tree["task"] = {"classes": list(classes), "corpora": {"own": corpus}, "scored": scored}
    tree["training"]["batch_size"] = None
    tree["net"] |= {"nclass": len(classes), "median_filter": 7, **net}
    return check_config(tree, "a test")


def saved(path: Path, config: RecipeConfig) -> Path:
    torch.manual_seed(5)
    module = SEDTask4(config)
    for value in module.sed_teacher.state_dict().values():
        value += 1
    content = {"state_dict": module.state_dict(), "hyper_parameters": config.dump()}
    torch.save({**content, "detector": detector_spec(config).to_dict()}, path)
    return path


def started(config: RecipeConfig, path: Path) -> tuple[SEDTask4, dict[str, torch.Tensor]]:
    """The module after it took the weights, and the state it had before."""
    config = with_initial_weights(config, path)
    torch.manual_seed(6)
    module = SEDTask4(config)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    load_initial_weights(module, config)
    return module, before


def rows_taken(module: SEDTask4, before, path: Path) -> list[int | None]:
    """The row of the file that each class has, alike in all tensors of both networks; None for the
    random ones that it had. Everything else is the file's."""
    stored, found = load_safely(path)["state_dict"], []
    after = module.state_dict()
    for role in ("sed_student", "sed_teacher"):
        for name in (name for name in after if name.startswith(f"{role}.")):
            if name.partition(".")[2] not in HEADS:
                assert torch.equal(after[name], stored[name]), name
                continue
            found.append([])
            for row, own in enumerate(after[name]):
                same = [n for n, old in enumerate(stored[name]) if torch.equal(old, own)]
                if not same:
                    assert torch.equal(own, before[name][row]), (name, row)
                found[-1].append(same[0] if same else None)
    assert all(one == found[0] for one in found), found
    return found[0]


def test_a_class_takes_the_rows_of_its_name_and_a_new_one_keeps_random_rows(tmp_path, capsys):
    path = saved(tmp_path / "größe.ckpt", of_classes("one", *ODD, "last"))
    module, before = started(of_classes("new", "last", ODD[0], ODD[3], "one"), path)
    assert rows_taken(module, before, path) == [None, 6, 1, 4, 0]
    told = capsys.readouterr().out
    assert "rows of 4 of 5 are taken (last, Grüße" in told
    assert "rows of 1 are random (new)" in told and "3 of the checkpoint's are not used (" in told
    assert "of 4 (dense.weight, dense.bias, dense_softmax.weight, dense_softmax.bias) the " in told
    assert "median filters are those of the configuration" in told


def test_the_same_classes_in_another_order_are_taken_by_name(tmp_path, capsys):
    path = saved(tmp_path / "a.ckpt", of_classes(*ODD))
    module, before = started(of_classes(*reversed(ODD)), path)
    assert rows_taken(module, before, path) == [4, 3, 2, 1, 0]
    assert "random" not in capsys.readouterr().out


def test_the_same_classes_are_taken_as_they_are_without_another_word(tmp_path, capsys):
    path = saved(tmp_path / "a.ckpt", of_classes(*ODD))
    module, before = started(of_classes(*ODD), path)
    assert rows_taken(module, before, path) == [0, 1, 2, 3, 4]
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "initial weights",
        *(["feature statistics"] * (load_config(MINI).scaler.statistic != "instance")),
    ]


def test_rows_of_another_name_and_random_ones_are_asked_for(tmp_path, capsys):
    path = saved(tmp_path / "a.ckpt", of_classes("Dog", "Speech", "Cat"))
    config = with_init_classes(of_classes("dog", "Cat", "talk"), ["talk=Speech", "Cat="])
    module, before = started(config, path)
    assert rows_taken(module, before, path) == [None, None, 1]
    told = capsys.readouterr().out
    assert "rows of 1 of 3 are taken (talk from Speech)" in told
    # Told, but not guessed.
    assert "similar names are not taken for the same; --init_classes 'dog=Dog' would" in told


def test_without_a_shared_name_only_the_trunk_is_taken_and_a_line_says_so(tmp_path, capsys):
    path = saved(tmp_path / "a.ckpt", of_classes("one"))
    module, before = started(of_classes("two"), path)
    assert rows_taken(module, before, path) == [None]
    told = capsys.readouterr().out
    assert "classes: none has the name of one of the checkpoint's 1, so only the trunk is" in told


def test_a_published_checkpoint_names_its_classes_too(tmp_path, capsys):
    config = load_config(MINI, [*SMALL, "net.n_layers_RNN=2"])
    path = tmp_path / "published.ckpt"
    torch.save(published(detector_spec(config)), path)
    with pytest.warns(UserWarning, match=r"n_layers_RNN is 2, not 1"):
        module, before = started(of_classes("new", "Speech", "car", n_layers_RNN=2), path)
    assert rows_taken(module, before, path) == [None, CLASSES.index("Speech"), CLASSES.index("car")]
    assert "25 of the checkpoint's are not used (Alarm_bell_ringing, " in capsys.readouterr().out


def test_everything_else_of_the_network_must_be_the_same(tmp_path):
    path = saved(tmp_path / "a.ckpt", of_classes("one"))
    with pytest.raises(InputError, match=r"net.activation: 'glu' in the checkpoint, 'relu' here"):
        with_initial_weights(of_classes("two", activation="relu"), path)
    with pytest.raises(InputError, match=r"net.n_RNN_cell: 8 in the checkpoint, 16 here"):
        with_initial_weights(of_classes("two", n_RNN_cell=16), path)


def test_weights_alone_do_not_name_classes(tmp_path):
    content = torch.load(saved(tmp_path / "a.ckpt", of_classes("one", "two")), weights_only=True)
    path = tmp_path / "alone.ckpt"
    torch.save(content["state_dict"], path)
    module, before = started(of_classes("other", "names"), path)
    assert rows_taken(module, before, path) == [0, 1]
    with pytest.raises(InputError, match=r"shape \(2, 16\) in the checkpoint, \(1, 16\) in"):
        with_initial_weights(of_classes("one"), path)
    with pytest.raises(InputError, match=r"contains weights only and does not name its classes"):
        with_initial_weights(with_init_classes(of_classes("b"), ["b=one"]), path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("dgo=Dog", r"--init_classes dgo=Dog: the task has no class 'dgo'; known: dog, a=b"),
        ("dog", r"--init_classes dog: write it as CLASS=CLASS OF THE CHECKPOINT"),
    ],
)
def test_an_entry_that_cannot_be_meant(entry, message):
    with pytest.raises(InputError, match=message):
        parse_init_classes([entry], ("dog", "a=b"))
    with pytest.raises(InputError, match="names dog twice"):
        parse_init_classes(["dog=Dog", "dog=Cat"], ("dog",))


def test_names_may_contain_the_sign_and_commas():
    entries = ["a=b=c=d", "x, y=Dog, big"]
    assert parse_init_classes(entries, ("a=b", "x, y")) == {"a=b": "c=d", "x, y": "Dog, big"}


def test_a_name_that_the_checkpoint_does_not_have(tmp_path):
    path = saved(tmp_path / "a.ckpt", of_classes("Dog", "Cat"))
    with pytest.raises(InputError, match=r"has no class 'Dgo'; known: Dog, Cat"):
        with_initial_weights(with_init_classes(of_classes("dog"), ["dog=Dgo"]), path)


def test_a_training_with_other_names_is_another_training(tmp_path):
    config = of_classes("dog")
    named = with_init_classes(config, ["dog=Dog"])
    (line,) = compare(config.dump(), named.dump()).refused
    assert line.startswith("initial_weights.classes: {} in the checkpoint, {'dog': 'Dog'} here")
