"""The number of features of a configuration's embeddings, as they are stored."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from desed_task.dataio.embeddings import FRAME
from desed_task.encoders.weights_file import MINI_ATST, MINI_BEATS
from desed_task.errors import InputError
from desed_task.hdf5 import number_dataset, open_hdf5
from local.config import RecipeConfig
from local.schema.encoders import EncoderChoice, Pretrained
from local.stores.folders import folders_to_read

# Of the published weights, and of the mini corpus' random ones. A network without embeddings, too,
# records a number.
_PUBLISHED: Final = {"m2d": 3840}
_MOST_PUBLISHED: Final = 768
_MINI: Final = 128


def with_embedding_size(config: RecipeConfig) -> RecipeConfig:
    """The configuration with the number of features of its embeddings in `net.embedding_size`.

    A number that is there stays; whether it is that of the embeddings is checked with the data.
    Otherwise it is that of the stored embeddings, or of encoders that run inside the step, and,
    before there are any, of published weights.
    """
    if config.net.embedding_size is not None:
        return config
    return with_published_size(with_stored_size(config))


def with_published_size(config: RecipeConfig) -> RecipeConfig:
    """The same, of published weights and the mini corpus' ones, whatever is stored."""
    if config.net.embedding_size is not None:
        return config
    return _with_size(config, sum(map(_expected, config.pretrained.encoders)))


def with_stored_size(config: RecipeConfig) -> RecipeConfig:
    """The same, but without a number before there are embeddings, or if they are not used."""
    if config.net.embedding_size is not None or not config.net.use_embeddings:
        return config
    size = _size_of_weights(config.pretrained) if config.runs_encoders else stored_size(config)
    return config if size is None else _with_size(config, size)


def stored_size(config: RecipeConfig) -> int | None:
    """Features of the stored embeddings of all encoders together; None if one has none."""
    sizes = [_size_in(folder.path) for folder in folders_to_read(config.pretrained)]
    found = [size for size in sizes if size is not None]
    return sum(found) if len(found) == len(sizes) else None


def _size_of_weights(pretrained: Pretrained) -> int | None:
    """Features of the encoders of the configured files together; None if one cannot be used."""
    from desed_task.encoders.loading import load_encoder  # needs PyTorch

    try:
        return sum(load_encoder(one.file, one.name).width for one in pretrained.encoders)
    except InputError:
        return None  # told when the training loads them


def _with_size(config: RecipeConfig, size: int) -> RecipeConfig:
    net = config.net.model_copy(update={"embedding_size": size})
    return config.model_copy(update={"net": net})


def _expected(choice: EncoderChoice) -> int:
    if Path(choice.file).name in (MINI_BEATS, MINI_ATST):
        return _MINI
    return _PUBLISHED.get(choice.name, _MOST_PUBLISHED)


def _size_in(folder: Path) -> int | None:
    """Features in the first file of a folder that can be read."""
    for path in sorted(folder.glob("*.hdf5")):
        try:
            with open_hdf5(path) as file:
                return int(number_dataset(file, FRAME, 3).shape[1])
        except InputError:
            continue  # told when the data is checked
    return None
