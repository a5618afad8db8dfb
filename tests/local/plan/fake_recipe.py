"""Scripts that stand for those of the recipe: they write files of the same names in no time.

A script appends its name and arguments to calls.txt, works for as many steps as the file `steps`
says, each of FAKE_STEP_S seconds, and resumes at the step at which it was killed. It fails where
the file `fail` names the stage.
"""

from __future__ import annotations

import json
from pathlib import Path

from desed_task.errors import CONSOLE_COMMANDS

PROGRAM = """
import hashlib, json, os, sys, time
from pathlib import Path

def value(flag, default=None):
    return args[args.index(flag) + 1] if flag in args else default

def values(flag):
    if flag not in args:
        return []
    rest = args[args.index(flag) + 1:]
    end = next((n for n, word in enumerate(rest) if word.startswith("--")), len(rest))
    return rest[:end]

def sha(*paths):
    parts = [Path(path).read_bytes() for path in paths]
    return hashlib.sha256(b"|".join(parts)).hexdigest()

def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name("." + path.name)
    temporary.write_text(text)
    os.replace(temporary, path)

args = sys.argv[1:]
base = Path(os.environ["FAKE_BASE"])
script = Path(sys.argv[0]).name
conf = value("--conf_file")
out = Path(value("--log_dir") or value("--output_dir") or Path(conf or "no/stage").parent)
if script == "summarize_runs.py":
    out = out.parent
stage = out.parent.name
if script == "generate_dcase_task4_2024.py":
    out, stage = Path(value("--basedir")), "made"
with (base / "calls.txt").open("a") as file:
    file.write(json.dumps([stage, script, args]) + "\\n")
    file.flush()
print("working", flush=True)
progress = out / "progress"
first = int(progress.read_text()) if progress.is_file() else 0
for step in range(first, int(os.environ.get("FAKE_STEPS", "0"))):
    time.sleep(float(os.environ.get("FAKE_STEP_S", "0.01")))
    write(progress, str(step + 1))
fail = base / "fail"
if fail.is_file() and stage in fail.read_text().split():
    print(f"error: {stage}: out of luck; try again", file=sys.stderr)
    sys.exit(2)
CSV = "duration,energy_consumed\\n1.0,0.25\\n"
if script == "train_pretrained.py":
    tested = values("--test_from_checkpoint")
    run = out / "version_0"
    seed = sha(conf, *tested, *values("--init_from_checkpoint"))
    if not tested:
        write(run / "checkpoints" / "epoch=0-step=1.ckpt", f"best {seed}")
        write(run / "checkpoints" / "last.ckpt", f"last {seed}")
        write(run / "codecarbon" / "emissions_baseline_training.csv", CSV)
    psds = int(seed[:4], 16) / 65535
    metrics = {"test/student/psds1/x": psds, "test/student/other/x": None, "test/teacher/a/x": 0.0}
    write(run / "results.json", json.dumps({"metrics": metrics}))
    write(run / "codecarbon" / "emissions_baseline_test.csv", CSV)
elif script == "extract_embeddings.py" and "--pseudo_labels" in args:
    given = [args[n + 1] for n, word in enumerate(args) if word == "--checkpoint"]
    write(Path(value("--pseudo_labels")) / "weak_train.hdf5", sha(*given))
elif script == "optuna_pretrained.py":
    write(out / "best.yaml", sha(*values("--test_from_checkpoint")))
elif script == "summarize_runs.py":
    runs = [word for word in args if "version_" in word]
    write(out / "summary" / "summary.md", sha(*(Path(run) / "results.json" for run in runs)))
elif script == "generate_dcase_task4_2024.py":
    for name in ("mini_corpus.json", "beats_mini.pt", "atst_frame_mini.pt"):
        write(Path(value("--basedir")) / name, name)
"""

STAGES = """
  made: {kind: generate, basedir: %(base)s/größe}
  beats_1: {kind: train, encoder: beats, settings: stage_1, needs: made}
  atst_1: {kind: train, encoder: atst, settings: [stage_1], needs: [made]}
  labels: {kind: pseudo_labels, checkpoints: [beats_1, atst_1]}
  beats_2:
    {kind: train, encoder: beats, init_from: beats_1, pseudo_labels: labels, settings: stage_2}
  boxes: {kind: tune_boxes, checkpoints: beats_2}
  boxed: {kind: test, checkpoints: [beats_2], boxes: boxes}
  both: {kind: test, checkpoints: [beats_2, atst_1], set: {decoder.kind: boxes}}
  report: {kind: report, runs: both, against: [atst_1], resamples: 0}
"""
PLAN = (
    """
conf_file: confs/pretrained.yaml
jobs: 1
metrics: [psds1/x]
set: {training.n_epochs: 200, training.epoch_decay: 90}
encoders:
  beats: {checkpoint: %(base)s/weights.pt}
  atst: {model: atst_frame, set: {net.dropout: 0.3}}
settings:
  stage_1: {opt.lr: 0.0005}
  stage_2: {opt.lr: 5e-5, net.dropout: 0.5}
stages:
"""
    + STAGES.strip("\n")
    + "\n"
)


def write_recipe(base: Path) -> Path:
    """Write the scripts and a plan below a folder; the path of the plan."""
    scripts = base / "scripts"
    scripts.mkdir(parents=True)
    for name in CONSOLE_COMMANDS:
        (scripts / name).write_text(PROGRAM, encoding="utf-8")
    (base / "weights.pt").write_bytes(b"weights")
    plan = base / "ein plan.yaml"
    plan.write_text(PLAN % {"base": base}, encoding="utf-8")
    return plan


def calls(base: Path) -> list[str]:
    """The stages that scripts were called for, in order."""
    path = base / "calls.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [json.loads(line)[0] for line in lines]


def words_of(base: Path, stage: str) -> list[str]:
    """The arguments of the last call for a stage."""
    lines = (base / "calls.txt").read_text(encoding="utf-8").splitlines()
    return next(words for name, _, words in map(json.loads, reversed(lines)) if name == stage)
