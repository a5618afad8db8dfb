"""The clips of a corpus on disk."""

from __future__ import annotations

from desed_task.audio.clip_files import ClipFolder, find_clips
from local.task.corpus import Corpus


def clips_of(corpus: Corpus) -> ClipFolder:
    """The clips of a corpus that are on disk, whether a table lists them or not.

    Raises:
        InputError: there are none, or two files are one clip.
    """
    return find_clips(corpus.folder)
