"""The archives of the recipe in their real shape, with the mini corpus in them."""

import io
import tarfile
import zipfile
from pathlib import Path

SYNTH, METADATA = "dcase/dataset/dcase_synth", "dcase/dataset/metadata"
RECORDS = {
    4639776: ["audioset_metadata.tar.gz"],
    6444477: ["audioset_strong.tsv"],
    6026841: ["dcase_synth.zip"],
    7244360: ["development_audio.zip", "development_annotation.zip"],
    11425124: ["dcase2024_task4_eval.zip"],
    11280943: ["baseline_pretrained_2024.zip"],
}
TABLES = ("train/weak.tsv", "train/unlabel_in_domain.tsv", "validation/validation.tsv")


def archives(corpus: Path) -> dict[str, bytes]:
    """Name -> content of every archive."""
    recordings, labels = "maestro_real/development_audio", "maestro_real/development_annotation"
    metadata = {name: (corpus / METADATA / name) for name in TABLES}
    metadata = {name: path.read_bytes() for name, path in metadata.items() if path.is_file()}
    metadata.setdefault("train/unlabel_in_domain.tsv", b"filename\n")
    strong = (corpus / METADATA / "train/audioset_strong.tsv").read_bytes()
    return {
        "audioset_metadata.tar.gz": tar({f"./metadata/{k}": v for k, v in metadata.items()}),
        "audioset_strong.tsv": strong,
        "dcase_synth.zip": zipped(below(corpus, SYNTH, "dcase_synth")),
        "development_audio.zip": zipped(below(corpus, recordings, "development_audio")),
        "development_annotation.zip": zipped(below(corpus, labels, "development_annotation")),
        "dcase2024_task4_eval.zip": zipped(below(corpus, "dcase/dataset/audio/eval24", "eval24")),
        "baseline_pretrained_2024.zip": zipped(
            {"baseline_pretrained_2024/epoch=259-step=30680.ckpt": b"weights" * 1000}
        ),
    }


def below(corpus: Path, folder: str, top: str) -> dict[str, bytes]:
    """Name in the archive -> content; what is made by preparing is left out."""
    return {
        f"{top}/{path.relative_to(corpus / folder).as_posix()}": path.read_bytes()
        for path in sorted((corpus / folder).rglob("*"))
        if path.is_file() and "_16k" not in str(path) and path.name != "durations.tsv"
    }


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def publish(server, contents: dict[str, bytes], **about) -> None:
    """Host everything as a mirror does, listings of the records included."""
    for name, content in contents.items():
        server.put(name, content, **about)
    for record, names in RECORDS.items():
        server.put_record(record, {name: contents[name] for name in names})
