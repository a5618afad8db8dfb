"""What stages write, and digests of it: by these later stages know whether it has changed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from desed_task.atomic_files import sha256_of, write_json_atomic
from desed_task.checkpoints.run_folders import find_checkpoint
from desed_task.dataio.embedding_sources import read_sources
from desed_task.dataio.embeddings import EmbeddingReader
from desed_task.errors import InputError
from local.checkpoints.resume import is_finished
from local.checkpoints.run_claims import numbered_runs
from local.config import RecipeConfig
from local.extraction.sets import choose_sets
from local.plan.reading import PlannedStage
from local.plan.schema import EmbeddingsStage, GenerateStage
from local.scoring.results import RESULTS_FILE
from local.stores.folders import folders_to_read
from local.tuning.study_log import BEST_FILE

LABELS_FOLDER, SUMMARY_FOLDER, SUMMARY_FILE = "labels", "summary", "summary.md"
# Of the mini corpus: its sizes and seed, and the encoders that come with it.
_MADE = ("mini_corpus.json", "beats_mini.pt", "atst_frame_mini.pt")
CHECKPOINT_ENDING = ".ckpt"
Digest = Callable[[Any], str]


def products_of(stage: PlannedStage, folder: Path, config: RecipeConfig) -> dict[Path, Digest]:
    """The files of a stage that later stages depend on, and how each is made a digest of.

    Args:
        stage: the stage.
        folder: where it was written.
        config: its configuration.

    Raises:
        InputError: there are none where the stage has ended.
    """
    kind, spec = stage.spec.kind, stage.spec
    if isinstance(spec, GenerateStage):
        return {Path(spec.basedir) / name: sha256_of for name in _MADE}
    if isinstance(spec, EmbeddingsStage):
        sets = choose_sets(config, None, eval_set=spec.eval_set)
        folders = folders_to_read(config.pretrained)
        return {one.file(name): _embeddings_digest for one in folders for name in sets}
    if kind in ("train", "test"):
        run = run_of(folder)
        found = {} if kind == "test" else {find_checkpoint(run): sha256_of}
        tested = bool(config.detection_task.test)
        return found | ({run / RESULTS_FILE: sha256_of} if tested else {})
    if kind == "pseudo_labels":
        files = sorted((folder / LABELS_FOLDER).glob("*.hdf5"))
        if not files:
            raise InputError(f"{folder / LABELS_FOLDER}: has no pseudo-labels (*.hdf5)")
        return dict.fromkeys(files, sha256_of)
    if kind == "tune_boxes":
        return {folder / BEST_FILE: sha256_of}
    return {folder / SUMMARY_FOLDER / SUMMARY_FILE: sha256_of}


def run_of(folder: Path) -> Path:
    """The newest run of a training or test that has ended.

    Raises:
        InputError: there is none.
    """
    runs = numbered_runs(folder)
    ended = [run for run in runs if (run / RESULTS_FILE).is_file()] or runs
    if not ended:
        raise InputError(f"{folder}: has no run folder (version_N)")
    return ended[0]


def tested(folder: Path) -> bool:
    """Whether a test has ended in this folder, which then need not begin again."""
    return any(is_finished(run) for run in numbered_runs(folder))


def stored_names(outputs: Mapping[str, str], folder: Path) -> dict[str, dict[str, str]]:
    """What a stage has written, for done.json: names below its folder, and paths of other files.

    These are relative to the current folder where they lie below it. So a plan is the same however
    its folder is spelled, and where it is moved to.
    """
    own: dict[str, str] = {}
    elsewhere: dict[str, str] = {}
    base, here = Path(os.path.abspath(folder)), Path.cwd()
    for name, digest in outputs.items():
        path = Path(os.path.abspath(name))
        if path.is_relative_to(base):
            own[path.relative_to(base).as_posix()] = digest
        else:
            short = path.relative_to(here) if path.is_relative_to(here) else path
            elsewhere[str(short)] = digest
    return {"files": own, "elsewhere": elsewhere}


def stored_paths(stored: Mapping[str, Any], folder: Path) -> dict[str, str] | None:
    """Path -> digest of what done.json names; None if it names nothing.

    Args:
        stored: its content; earlier versions wrote all paths as the folder was spelled then.
        folder: of the stage.
    """
    files, elsewhere = stored.get("files"), stored.get("elsewhere")
    if not isinstance(files, dict):
        return None
    if isinstance(elsewhere, dict):
        return {str(folder / name): digest for name, digest in files.items()} | elsewhere
    return {_as_spelled_now(name, folder): digest for name, digest in files.items()}


def _as_spelled_now(path: str, folder: Path) -> str:
    """A path below a stage's folder, whatever the folder of the plan was then."""
    parts, own = Path(path).parts, folder.parts[-2:]  # stage and key
    for start in reversed(range(len(parts) - 1)):
        if parts[start : start + 2] == own:
            return str(folder.joinpath(*parts[start + 2 :]))
    return path


def _embeddings_digest(path: Path) -> str:
    """What embeddings are of, not their gigabytes: encoder, weights, clips and their audio."""
    reader = EmbeddingReader(path)
    sources = read_sources(path, reader.clip_ids)
    facts = {
        "identity": {key: str(value) for key, value in reader.identity.items()},
        "shape": [reader.size, reader.n_tokens],
        "clips": [[one, getattr(sources.get(one), "digest", "")] for one in reader.clip_ids],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class FileDigests:
    """Digests of files, computed again only where size or time of a file has changed.

    Args:
        path: where they are kept; a lost or damaged file only costs time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[object]] = {}
        with suppress(OSError, ValueError):
            found = json.loads(path.read_text(encoding="utf-8"))
            self._known = found if isinstance(found, dict) else {}

    def of(self, path: Path, digest: Digest = sha256_of) -> str:
        """The digest of a file.

        Raises:
            OSError: it cannot be read.
        """
        there = os.stat(path)
        name = os.path.abspath(path)
        stamp: list[object] = [there.st_mtime_ns, there.st_size]
        known = self._known.get(name)
        if isinstance(known, list) and known[:2] == stamp and len(known) == 3:
            return str(known[2])
        found = digest(path)
        self._known[name] = [*stamp, found]
        return found

    def all_of(self, files: Mapping[Path, Digest]) -> dict[str, str]:
        """Path as text -> digest; what is not there is left out."""
        found = {}
        for path, digest in files.items():
            with suppress(FileNotFoundError, NotADirectoryError):
                found[str(path)] = self.of(path, digest)
        return found

    def save(self) -> None:
        """Keep them for the next command."""
        write_json_atomic(self._path, self._known)
