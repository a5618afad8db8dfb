"""Weights that others have released: which encoder, trained with what, and what they score.

The addresses of the files are in confs/sources.yaml. Figures: arXiv 2409.09546 (PretrainedSED).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from desed_task.encoders.registry import kind_of, kinds
from desed_task.errors import InputError

Pretraining = Literal["ssl", "weak", "strong"]
IN_WORDS: Final[dict[Pretraining, str]] = {
    "ssl": "self-supervised",
    "weak": "AudioSet, labels of clips",
    "strong": "AudioSet, labels of events",
}
# Of the code that the files were released with; licences of the weights are not stated there.
_CODE_MIT = "not stated (code: MIT)"
_LICENCES = {
    "atst_frame": "not stated (code: MIT; ATST's own checkpoints: MIT)",
    "m2d": "not stated (code: MIT; M2D's own checkpoints: a licence of NTT)",
}


@dataclass(frozen=True)
class ReleasedWeights:
    """A released file of weights.

    Attributes:
        name: "<encoder>_<pre-training>".
        encoder: name of the encoder in the registry.
        pretraining: what it was trained with.
        file: name of the file.
        n_classes: of its head; 0 if it has none. With strong labels it is a detector.
        psds1: PSDS1 on AudioSet's strong evaluation set, macro mean of 407 classes; None if it
            is not published.
    """

    name: str
    encoder: str
    pretraining: Pretraining
    file: str
    n_classes: int
    psds1: float | None = None

    @property
    def title(self) -> str:
        """In words."""
        return f"{kind_of(self.encoder).title} ({IN_WORDS[self.pretraining]})"

    @property
    def licence(self) -> str:
        """Of the weights."""
        return _LICENCES.get(self.encoder, _CODE_MIT)


_FILES = {
    "beats": "BEATs",
    "atst_frame": "ATST-F",
    "fpasst": "fpasst",
    "asit": "ASIT",
    "m2d": "M2D",
}
_PSDS1 = {"atst_frame": 0.458, "beats": 0.465, "fpasst": 0.454, "m2d": 0.463, "asit": 0.462}

RELEASED: Final = tuple(
    row
    for encoder, stem in _FILES.items()
    for row in (
        ReleasedWeights(f"{encoder}_ssl", encoder, "ssl", f"{stem}_ssl.pt", 0),
        ReleasedWeights(f"{encoder}_weak", encoder, "weak", f"{stem}_weak.pt", 527),
        ReleasedWeights(
            f"{encoder}_strong", encoder, "strong", f"{stem}_strong_1.pt", 447, _PSDS1[encoder]
        ),
    )
)


def released(name: str) -> ReleasedWeights:
    """The released weights of a name; that of an encoder alone stands for its strong ones.

    Raises:
        InputError: there are none; the message lists all names.
    """
    known = {row.name: row for row in RELEASED}
    found = known.get(name) or known.get(f"{name}_strong" if name in kinds() else "")
    if found is None:
        raise InputError(f"no released weights {name!r}; known: {', '.join(known)}")
    return found


def usual_weights(encoder: str) -> ReleasedWeights:
    """The released weights that the recipe takes for an encoder if none are named.

    Those of its default file; for BEATs, whose default file is not among them, the
    self-supervised ones, as in the published baseline.

    Raises:
        InputError: there are none; the message lists all names.
    """
    of_encoder = [row for row in RELEASED if row.encoder == encoder]
    default = kind_of(encoder).default_file if of_encoder else ""
    usual = [row for row in of_encoder if row.file == default]
    usual += [row for row in of_encoder if row.pretraining == "ssl"]
    return usual[0] if usual else released(encoder)
