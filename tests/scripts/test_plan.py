"""A plan as a command: its preview, and what it says and returns when a stage fails."""

from __future__ import annotations

from pathlib import Path

from tests.in_process import run_main

PLAN = """
conf_file: confs/mini.yaml
encoders: {beats: {checkpoint: broken.pt}}
set: {data.packed_dir: null}
stages:
  files: {kind: embeddings, encoder: beats, needs: []}
  trained: {kind: train, encoder: beats, needs: files}
"""


def test_a_plan_whose_stage_fails(tmp_path: Path):
    (tmp_path / "plan.yaml").write_text(PLAN, encoding="utf-8")
    (tmp_path / "broken.pt").write_bytes(b"no weights")
    words = ("--plan", "plan.yaml", "--log_dir", "out", "--gpus", "0")
    previewed = run_main("train_pretrained.py", *words, "--dry_run", cwd=tmp_path)
    assert previewed.returncode == 0, previewed.stderr
    rows = [line.split() for line in previewed.stdout.splitlines()]
    assert ["1", "files", "embeddings"] in [row[:3] for row in rows]
    assert next(row for row in rows if row[1:2] == ["trained"])[-2:] == ["after", "files"]
    assert not (tmp_path / "out").exists()

    done = run_main("train_pretrained.py", *words, cwd=tmp_path)
    assert done.returncode == 1
    (log,) = (tmp_path / "out" / "files").glob("*/log.txt")
    errors = done.stderr.splitlines()
    start = next(n for n, line in enumerate(errors) if line.startswith("error: stage files: "))
    assert f"  log: {log.relative_to(tmp_path)}" in errors[start:]
    assert "not run: trained, which needs files" in errors
    assert errors[-1].endswith("--plan plan.yaml --log_dir out --gpus 0")
    # The script's own message is the reason.
    assert "error: " + errors[start].removeprefix("error: stage files: ") in log.read_text("utf-8")
