"""The commit that run.yaml names."""

import subprocess

from local.training import callbacks
from local.training.callbacks import git_commit


def test_the_commit_of_a_project_that_we_are_installed_in_is_not_ours(tmp_path, monkeypatch):
    def git(*words):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True, capture_output=True)

    git("init", "-q")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--allow-empty", "-qm", "theirs")
    inside = tmp_path / "venv" / "site-packages"
    inside.mkdir(parents=True)
    monkeypatch.setattr(callbacks, "ROOT", inside)
    assert git_commit() == ""
    monkeypatch.setattr(callbacks, "ROOT", tmp_path)
    assert len(git_commit()) == 40
