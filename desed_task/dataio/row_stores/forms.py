"""The kinds of HDF5 files with a row for each clip, and the names of their data sets."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from desed_task.errors import command_name

NAMES = "filenames"
WINDOW_NAMES = "window_filenames"
WINDOW_STARTS = "window_starts"
FRAME = "frame_embeddings"
GLOBAL = "global_embeddings"
WINDOW_FRAME = "window_frame_embeddings"
WINDOW_GLOBAL = "window_global_embeddings"
LOGITS = "strong_logits"
WINDOW_LOGITS = "window_strong_logits"
EXTRACT_REMEDY = f"run {command_name('extract_embeddings.py')}"
PSEUDO_LABEL_REMEDY = f"{EXTRACT_REMEDY} --pseudo_labels"


class StoreForm(NamedTuple):
    """A kind of file.

    Attributes:
        what: what its rows are, in messages.
        frame: data set of the rows by frame, (clip, ., .).
        global_: data set of the rows that have no frames, (clip, .); "" if there is none.
        window_frame, window_global: the same of windows of longer clips.
        layout: what such a file has, in words.
        maker: what computes the rows, in words.
        remedy: how such a file is made.
        missing: what a message says of a missing file.
        varies: what rows depend on beside the clips, in words.
        folder_flag: of the command, the folder of such files.
    """

    what: str
    frame: str
    global_: str
    window_frame: str
    window_global: str
    layout: str
    maker: str
    remedy: str
    missing: str
    varies: str
    folder_flag: str

    @property
    def of_windows(self) -> tuple[str, ...]:
        """Data sets of windows."""
        found = (self.window_frame, self.window_global, WINDOW_NAMES, WINDOW_STARTS)
        return tuple(name for name in found if name)


EMBEDDINGS: Final = StoreForm(
    *("embeddings", FRAME, GLOBAL, WINDOW_FRAME, WINDOW_GLOBAL),
    layout=f"an embeddings file has {FRAME}, {GLOBAL} and {NAMES} of one length",
    maker="an encoder",
    remedy=EXTRACT_REMEDY,
    missing="no such embeddings file",
    varies="weights, clip length or precision",
    folder_flag="--output_dir",
)
PSEUDO_LABELS: Final = StoreForm(
    *("pseudo-labels", LOGITS, "", WINDOW_LOGITS, ""),
    layout=f"a file of pseudo-labels has {LOGITS} and {NAMES} of one length",
    maker="a network",
    remedy=PSEUDO_LABEL_REMEDY,
    missing="no such file of pseudo-labels",
    varies="checkpoints, network, encoder weights, classes, clip length or precision",
    folder_flag="--pseudo_labels",
)


def store_form(file: Any) -> StoreForm:
    """The kind of an open file; embeddings, if it is none."""
    return PSEUDO_LABELS if LOGITS in file else EMBEDDINGS
