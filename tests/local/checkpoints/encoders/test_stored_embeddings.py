"""What a checkpoint says of its encoders is what its embeddings say, and others are warned of."""

import warnings
from pathlib import Path

import pytest

from desed_task.checkpoints.encoder_specs import EncoderSpec
from local.checkpoints.encoders.stored_embeddings import (
    encoders_of,
    encoders_of_embeddings,
    warn_of_other_embeddings,
)
from local.checkpoints.restore import detector_spec
from local.config import load_config

MINI = Path(__file__).resolve().parents[4] / "confs" / "mini.yaml"
BOTH = [
    "pretrained.model=[beats, atst_frame]",
    "pretrained.n_blocks=[null, 10]",
    "net.embedding_size=192",
]


class Reader:
    """Stands for a file of embeddings."""

    def __init__(self, size=128, **identity):
        self.size, self.identity = size, identity


class Joined:
    """Stands for several that are read as one."""

    def __init__(self, *parts):
        self.parts = parts


def beats(digits="a1"):
    return Reader(checkpoint_sha256=digits * 32)


def atst(digits="c3", **more):
    values = {"encoder": "atst_frame", "n_blocks": 10, **more}
    return Reader(64, checkpoint_sha256=digits * 32, **values)


def test_weights_are_known_where_all_embeddings_agree():
    config, other = load_config(MINI), beats("b2")
    size = config.net.embedding_size
    known = [EncoderSpec("beats", size, "a1" * 32)]
    assert encoders_of(config, [beats(), None, beats()]) == known
    for readers in ([beats(), other], [beats(), Reader()], [Reader()], []):
        assert encoders_of(config, readers)[0].checkpoint_sha256 in ("", "a1" * 32)
    assert encoders_of(config, [beats(), other]) == [EncoderSpec("beats", size)]
    # A store of another encoder tells nothing of this one.
    assert encoders_of(config, [atst()]) == [EncoderSpec("beats", size)]


def test_every_part_of_joined_embeddings_is_known():
    config = load_config(MINI, BOTH)
    joined = Joined(beats(), atst())
    assert detector_spec(config, [joined]).encoders == (
        EncoderSpec("beats", 128, "a1" * 32),
        EncoderSpec("atst_frame", 64, "c3" * 32, 10),
    )
    assert encoders_of_embeddings(Joined(Reader(), atst()))[0].name == ""
    # Without embeddings, widths are unknown, but the section is complete.
    assert [one.width for one in detector_spec(config).encoders] == [0, 0]


def trained(*readers, sets=()):
    return {"detector": detector_spec(load_config(MINI, list(sets)), readers).to_dict()}


@pytest.mark.parametrize(
    ("sets", "readers", "here", "message"),
    [
        ([], [beats()], beats("b2"), r"other BEATs weights \(SHA-256 a1a1a1a1a1a1\.\.\.\) than"),
        (
            [],
            [beats()],
            atst(),
            r"of BEATs, those here are of ATST-Frame \(10 blocks\); its",
        ),
        ([], [beats()], Joined(beats(), atst()), r"of BEATs, those here are of BEATs and ATST-Fr"),
        ([], [beats()], Reader(checkpoint_sha256="a1" * 32, n_blocks=3), r"of BEATs \(3 blocks\);"),
        (
            BOTH,
            [Joined(beats(), atst())],
            Joined(atst(), beats()),
            r"BEATs and ATST-Frame \(10 blocks\), those here are of ATST-Frame",
        ),
        (BOTH, [Joined(beats(), atst())], Joined(beats(), atst("d4")), "other ATST-Frame weights"),
    ],
)
def test_other_embeddings_are_warned_of(sets, readers, here, message):
    with pytest.warns(UserWarning, match=message) as found:
        warn_of_other_embeddings(trained(*readers, sets=sets), [here, None, here], "a.ckpt")
    assert len(found) == 1


@pytest.mark.parametrize(
    ("file", "here"),
    [
        (trained(beats()), beats()),
        (trained(beats()), Reader()),
        (trained(), beats()),
        ({}, beats()),
        (trained(Joined(beats(), atst()), sets=BOTH), Joined(beats(), atst())),
        (trained(Joined(beats(), atst()), sets=BOTH), Joined(Reader(), atst())),
        (trained(sets=BOTH), Joined(beats("b2"), atst("d4"))),
    ],
)
def test_of_those_of_training_or_unknown_ones_nothing_is_said(file, here):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_other_embeddings(file, [here], "a.ckpt")
