"""Warnings about audio that can be used: sample formats, embeddings older than the audio."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from desed_task.audio.files import formats_text
from desed_task.audio.resampling import SAMPLE_FORMATS
from desed_task.errors import command_name, count_of
from local.data.corpus_checks import EXTRACT_HINT
from local.data.loaded_corpus import LoadedCorpus
from local.stores.up_to_date import compare_clips

_REWRITE = f"{command_name('generate_dcase_task4_2024.py')} --bits 32"


def warn_of_audio(corpora: Iterable[LoadedCorpus]) -> None:
    """Warn of 16-bit corpora, of each corpus with mixed formats, and of outdated embeddings."""
    corpora = tuple(corpora)
    texts = [mixed_text(one.folder, one.formats) for one in corpora if len(one.formats) > 1]
    coarse = [one.corpus.title for one in corpora if is_16_bit(one.formats)]
    if coarse:
        texts.append(coarse_text(coarse))
    found = [(one.corpus.title, len(one.clip_ids), *_outdated(one)) for one in corpora]
    outdated = [
        f"{changed} of {count_of(n, 'clip')} of {title}"
        for title, n, changed, _ in found
        if changed
    ]
    touched = [
        f"{other} of {count_of(n, 'clip')} of {title}" for title, n, _, other in found if other
    ]
    if outdated:
        what = f"embeddings of other audio than is there now: {', '.join(outdated)}"
        texts.append(f"{what}; {EXTRACT_HINT} to update them")
    if touched:
        what = f"audio with another modification time than at extraction: {', '.join(touched)}"
        texts.append(f"{what}; {EXTRACT_HINT}, which compares the content and updates what differs")
    for text in texts:
        warnings.warn(text, UserWarning, stacklevel=2)


def is_16_bit(formats: Mapping[str, int]) -> bool:
    """Whether all files of a corpus are 16-bit, as earlier versions wrote them."""
    return set(formats) == {SAMPLE_FORMATS[16]}


def coarse_text(titles: Sequence[str]) -> str:
    """Message about corpora of 16-bit files."""
    return (
        f"16-bit audio, used as is: {', '.join(titles)}; published results come from 32-bit "
        f"float files, which {_REWRITE} writes"
    )


def mixed_text(folder: Path, formats: Mapping[str, int]) -> str:
    """Message about a folder with several sample formats."""
    what = f"mixed sample formats, {formats_text(formats)}"
    return f"{folder}: {what}; {_REWRITE} rewrites all as float"


def _outdated(loaded: LoadedCorpus) -> tuple[int, int]:
    """Number of clips of other content than their embeddings, and of those of another time only."""
    changed: set[str] = set()
    touched: set[str] = set()
    pairs = dict(zip(loaded.clip_ids, loaded.wavs, strict=True))
    for reader in () if loaded.embeddings is None else loaded.embeddings.parts:
        # Published files do not record what they were computed from; assume that they are current.
        if reader.identity:
            there = set(reader.clip_ids)
            wavs = {clip_id: wav for clip_id, wav in pairs.items() if clip_id in there}
            # Reading hours of audio would delay each start.
            found = compare_clips(wavs, reader, read=False)
            changed.update(found.changed)
            touched.update(found.touched)
    return len(changed), len(touched - changed)
