"""A process keeps its place among the others once it has joined them."""

from __future__ import annotations

from local.processes.world import World, joined_world, world_here


def test_variables_that_a_joined_process_sets_do_not_change_its_world(monkeypatch):
    """Under SLURM it sets a part of torchrun's, which alone would be an error."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("LOCAL_WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    world = World(1, 2, 1, 2, "slurm")
    with joined_world(world):
        assert world_here() == world
        assert world_here({}) == World()  # what else is asked about
