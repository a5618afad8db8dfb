"""Which corpora have windows, and where the windows of their longer clips lie."""

from __future__ import annotations

from collections.abc import Callable

from desed_task.audio.windows import WindowGrid
from local.config import RecipeConfig
from local.task.corpus import Corpus
from local.task.task import Task


def takes_windows(task: Task, corpus: Corpus) -> bool:
    """Whether clips longer than the network's input are scored, or trained on, in windows.

    Clips that were cut from recordings are windows already.
    """
    if not corpus.scored_in_windows:
        return False
    scored = (*task.scored_corpora("val"), *task.scored_corpora("test"), *task.evaluated)
    return corpus in scored or (corpus.trains_on_windows and corpus in task.trained_on)


def hop_of(config: RecipeConfig, corpus: Corpus) -> float:
    """Seconds from one window of a corpus's clip to the next."""
    return config.predict.hop_s if corpus.hop_s is None else corpus.hop_s


def windows_of_corpus(config: RecipeConfig, corpus: Corpus) -> Callable[[], WindowGrid]:
    """What gives the positions of windows in the clips of a corpus.

    It raises InputError for a distance that is too short or too long, which only corpora with
    longer clips need notice.
    """

    def windows() -> WindowGrid:
        key = "predict.hop_s" if corpus.hop_s is None else f"task.corpora.{corpus.name}.hop_s"
        return WindowGrid.with_hop(config.grid, hop_of(config, corpus), key=key)

    return windows
