"""From an evaluation set with odd clips to the challenge's package, through the commands."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import yaml
from sed_scores_eval.base_modules.io import read_sed_scores

from local.classes_dict import CLASSES
from local.config import load_config
from tests.in_process import run_main
from tests.scripts.conftest import run_folder

pytestmark = pytest.mark.usefixtures("undrawn")

RATE = 16000
LABEL = "Turing_NPL_task4_1"
LENGTHS_S = {"short": 6.2, "long": 12.0}


@pytest.fixture(scope="module")
def evaluated(trained, extracted, tmp_path_factory):
    """The best checkpoint's evaluation of a set with a short and a long clip: (run folder,
    finished process).
    """
    root = tmp_path_factory.mktemp("evaluated")
    shutil.copytree(load_config(extracted).data.eval_folder, root / "clips")
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 12 * RATE)
    for name, length_s in LENGTHS_S.items():
        sf.write(root / "clips" / f"{name}.wav", noise[: round(length_s * RATE)], RATE)
    settings = ("--conf_file", extracted, "--set", f"data.eval_folder={root / 'clips'}")
    done = run_main(
        *("extract_embeddings.py", *settings, "--only", "eval", "--output_dir", root / "emb"),
        cwd=root,
    )
    assert done.returncode == 0, done.stderr
    (best,) = trained[0].glob("checkpoints/epoch=*.ckpt")
    done = run_main(
        *("train_pretrained.py", *settings, "--log_dir", root / "eval"),
        *("--set", f"pretrained.extracted_embeddings_dir={root / 'emb'}"),
        *("--eval_from_checkpoint", best),
        cwd=root,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return run_folder(root / "eval"), done


def test_clips_of_other_lengths_are_scored_to_their_end(evaluated):
    folder, done = evaluated
    assert "clips longer than 10.5 s, scored in windows 5.12 s apart: 1 of" in done.stdout
    lengths = json.loads((folder / "evaluation.json").read_text())["clips"]
    assert len(lengths) == 4
    assert {name: lengths[name] for name in LENGTHS_S} == LENGTHS_S
    for role in ("student", "teacher"):
        for kind in ("unprocessed", "postprocessed"):
            scores = read_sed_scores(folder / "metrics_test" / f"{role}_scores" / kind)
            assert set(scores) == set(lengths)
            for clip, found in scores.items():
                assert list(found.columns) == ["onset", "offset", *CLASSES]
                end_s = LENGTHS_S.get(clip, 9.984)
                assert found["offset"].iloc[-1] == end_s
                assert len(found) == np.ceil(end_s / 0.064 - 1e-6)


def fill_in(path: Path) -> None:
    tree = yaml.safe_load(path.read_text())
    tree["submission"].update(label=LABEL, name="Bombe", abbreviation="B")
    (author,) = tree["submission"]["authors"]
    author.update(lastname="Turing", firstname="Alan", email="a@example.org")
    author["affiliation"].update(abbreviation="NPL", institute="Laboratory", location="Teddington")
    path.write_text(yaml.safe_dump(tree))


def test_the_package_of_a_training(trained, evaluated, tmp_path):
    done = run_main("make_submission.py", "--write_metadata", "meta.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run_main("make_submission.py", evaluated[0], cwd=tmp_path)
    assert done.returncode == 2
    assert "meta.yaml: submission.label: not filled in" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "submission").exists()
    fill_in(tmp_path / "meta.yaml")
    done = run_main("make_submission.py", evaluated[0], "--baseline", trained[2], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / "submission" / "submission.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    system = tmp_path / "unpacked" / LABEL
    assert set(read_sed_scores(system / f"{LABEL}_run1.output")["short"].columns[2:]) == set(
        CLASSES
    )
    for stage in ("training", "test"):
        own, other = (
            (system / folder / f"emissions_{stage}.csv").read_bytes()
            for folder in (f"{LABEL}_run1_codecarbon", "baseline_codecarbon")
        )
        assert own == (trained[0] / f"codecarbon/emissions_baseline_{stage}.csv").read_bytes()
        assert other == (trained[2] / f"codecarbon/emissions_baseline_{stage}.csv").read_bytes()
    tree = yaml.safe_load((system / f"{LABEL}.meta.yaml").read_text())
    results = json.loads((trained[0] / "results.json").read_text())["metrics"]
    devtest = tree["results"]["devtest"]
    assert devtest["desed"]["PSDS1"] == results["test/student/psds1/sed_scores_eval"]
    assert devtest["maestro"]["mPAUC"] == results["test/student/segment_mpauc/sed_scores_eval"]
    assert tree["results"]["runs"][0]["clips"] == 4
    complexity = tree["system"]["complexity"]
    assert complexity["total_parameters"] > complexity["network_parameters"] > 0
    assert complexity["energy_consumption"]["training"] > 0
    assert complexity["energy_consumption"]["baseline"]["test"] > 0
    assert f"{LABEL}: 8 tables of scores, 6 other files" in done.stdout


def test_without_a_run_the_use_is_told(run_script, tmp_path):
    done = run_script("make_submission.py", cwd=tmp_path)
    assert done.returncode == 2
    assert "give one to three evaluation run folders" in done.stderr
