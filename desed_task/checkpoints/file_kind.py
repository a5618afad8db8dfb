"""Whether a file can be a checkpoint, by its first bytes: before PyTorch is imported."""

from __future__ import annotations

import zipfile
from pathlib import Path

from desed_task.errors import InputError
from desed_task.file_names import looked_up_from

REMEDY = "get it again from its source, or train one"
_OLD_FORMAT = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_ZIP = b"PK\x03\x04"
_SIGNATURES = {
    _OLD_FORMAT: "a file written by torch before 1.6; load it with the torch that wrote it and "
    "save it again with a newer one",
    b"\x89HDF": "an HDF5 file, such as embeddings; give a .ckpt file",
    b"\x1f\x8b": "a gzip archive; unpack it and give the .ckpt file in it",
    b"RIFF": "an audio file; give a .ckpt file",
}


# Names of tensors: of a detector of AudioSet's classes (`desed_task.audioset`), and of every CRNN.
_EVENT_HEAD, _CRNN = b"strong_head.weight", b"cnn.cnn.conv0.weight"
# The pickle of a file of tensors holds their names and shapes; a larger one is something else.
_MOST_PICKLE = 1 << 26


def holds_event_head(path: Path) -> bool:
    """Whether a file of torch.save names the head of a detector of AudioSet's classes.

    Nothing is loaded: this tells kinds of files apart, and whoever loads one checks it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            found = [one for one in archive.infolist() if one.filename.endswith("/data.pkl")]
            if len(found) != 1 or found[0].file_size > _MOST_PICKLE:
                return False
            content = archive.read(found[0])
    except Exception:  # zipfile raises whatever the bytes of a directory spell
        return False
    return _EVENT_HEAD in content and _CRNN not in content


def is_torch_file(path: Path) -> bool:
    """Whether a file was written by torch.save, whatever its name and however old torch was."""
    if not path.is_file():  # to open a pipe would wait for its other end
        return False
    try:
        with path.open("rb") as file:
            start = file.read(len(_OLD_FORMAT))
        if not start.startswith(_ZIP):
            return start == _OLD_FORMAT
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except Exception:  # zipfile raises whatever the bytes of a directory spell
        return False


def check_checkpoint_file(path: Path) -> None:
    """Reject what is not a zip archive, naming its type if its first bytes tell.

    Raises:
        InputError: stating what is there instead.
    """
    if path.is_dir():
        raise InputError(f"{path}: a folder, not a checkpoint; give the path of a .ckpt file")
    if not path.is_file():
        where = looked_up_from(path)
        raise InputError(f"{path}: no such checkpoint{where}; give the path of a .ckpt file")
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        raise InputError(f"{path}: an empty file, not a checkpoint; {REMEDY}")
    for signature, what in _SIGNATURES.items():
        if start.startswith(signature):
            raise InputError(f"{path}: not a checkpoint but {what}")
    if not start.startswith(_ZIP):
        what = "text" if start.isascii() and b"\0" not in start else "something else"
        raise InputError(f"{path}: not a checkpoint but {what}; give the path of a .ckpt file")
