"""Which process of how many this is, read from the variables of torchrun and SLURM."""

from __future__ import annotations

import pytest

from desed_task.errors import InputError
from local.processes.world import (
    STARTED_BY,
    World,
    environment_alone,
    first_node,
    slurm_variables,
    told_of_slurm,
    world_here,
)

TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "node1",
    "MASTER_PORT": "29500",
}
# The sixth of six tasks, on the last of three nodes.
SRUN = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NAME": "train.sh",
    "SLURM_NTASKS": "6",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "gpu[03-05]",
    "SLURM_STEP_NUM_TASKS": "6",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2),2",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "2",
}


def test_a_process_of_the_user_is_alone():
    here = world_here({"PATH": "/bin", "RANK": "", "WORLD_SIZE": "", "SLURM_JOB_ID": "1"})
    assert here == World() and not here.several and here.is_first and here.is_first_here


def test_torchrun_and_the_command_itself_set_the_same_variables():
    here = world_here(TORCHRUN)
    assert here == World(5, 8, 1, 4, "torchrun")
    assert here.several and not here.is_first and not here.is_first_here
    assert str(here) == "process 6 of 8"
    assert world_here({**TORCHRUN, STARTED_BY: "77"}).starter == "command"
    assert world_here({**TORCHRUN, **SRUN}).starter == "torchrun"  # srun torchrun ...
    first = {**TORCHRUN, "RANK": "4", "LOCAL_RANK": "0"}
    assert world_here(first).is_first_here and not world_here(first).is_first


def test_one_process_of_torchrun_is_alone():
    one = dict.fromkeys(("RANK", "LOCAL_RANK"), "0") | dict.fromkeys(
        ("WORLD_SIZE", "LOCAL_WORLD_SIZE"), "1"
    )
    assert not world_here({**TORCHRUN, **one}).several


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"LOCAL_RANK": ""}, "RANK=5 and WORLD_SIZE=8, but not LOCAL_RANK; start several"),
        ({"MASTER_ADDR": "", "MASTER_PORT": ""}, "but not MASTER_ADDR, MASTER_PORT; start"),
        ({"RANK": "first"}, "RANK=first: is not a number; unset it, or set it as torchrun does"),
        ({"LOCAL_WORLD_SIZE": "-4"}, "LOCAL_WORLD_SIZE=-4: is not a number"),
        ({"RANK": "8"}, "RANK=8: with WORLD_SIZE=8, processes count from 0 to 7; start them"),
        ({"LOCAL_RANK": "4"}, "LOCAL_RANK=4: with LOCAL_WORLD_SIZE=4, processes count from 0 to 3"),
    ],
)
def test_variables_that_do_not_fit_together_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        world_here({**TORCHRUN, **changes})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, World(5, 6, 1, 2, "slurm")),
        # Nodes with different numbers of tasks.
        ({"SLURM_STEP_TASKS_PER_NODE": "1,3,2"}, World(5, 6, 1, 2, "slurm")),
        ({"SLURM_STEP_TASKS_PER_NODE": "1(x2),4"}, World(5, 6, 1, 4, "slurm")),
        ({"SLURM_STEP_TASKS_PER_NODE": "6", "SLURM_LOCALID": "5"}, World(5, 6, 5, 6, "slurm")),
        # Of the job there may be more than of the step.
        ({"SLURM_NTASKS": "99"}, World(5, 6, 1, 2, "slurm")),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, World()),
        # srun below the shell of `salloc`, whose job is named like this.
        ({"SLURM_JOB_NAME": "interactive"}, World(5, 6, 1, 2, "slurm")),
        # srun below the shell of `srun --pty bash`.
        (
            {"SLURM_JOB_NAME": "bash", "SLURM_STEP_ID": "1", "SLURM_PTY_PORT": "4"},
            World(5, 6, 1, 2, "slurm"),
        ),
    ],
)
def test_tasks_of_srun(changes, expected):
    assert world_here({**SRUN, **changes}) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"SLURM_STEP_ID": ""},  # sbatch, or the shell of `salloc`
        {"SLURM_STEP_ID": "batch"},
        {"SLURM_STEP_ID": "4294967290"},  # the same as a step
        {"SLURM_JOB_NAME": "bash"},  # the shell of `srun --pty bash`
        {"SLURM_JOB_NAME": "zsh"},
        {"SLURM_JOB_NAME": "mine", "SLURM_PTY_PORT": "40001"},
    ],
)
def test_what_is_typed_or_started_without_srun_is_alone_and_told(changes):
    assert world_here({**SRUN, **changes}) == World()
    line = told_of_slurm({**SRUN, **changes})
    assert line is not None and line.startswith("SLURM has allotted 6 tasks, but this command is")
    assert told_of_slurm({**SRUN, **changes, "SLURM_NTASKS": "1"}) is None


def test_a_task_is_not_told():
    assert told_of_slurm(SRUN) is None and told_of_slurm({}) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SLURM_STEP_TASKS_PER_NODE": "2(x"}, r"SLURM_STEP_TASKS_PER_NODE=2\(x: is not a list"),
        ({"SLURM_PROCID": ""}, "SLURM_PROCID=: is not a number"),
        ({"SLURM_NODEID": "c"}, "SLURM_NODEID=c: is not a number"),
    ],
)
def test_variables_of_slurm_that_cannot_be_read_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        world_here({**SRUN, **changes})


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu03", "gpu03"),
        ("gpu[03-05,08],login", "gpu03"),
        ("gpu[08,03-05]", "gpu08"),
        ("login,gpu[03-05]", "login"),
        ("node-[1-3]-ib", "node-1-ib"),
        ("rack[1-2]node[7-8]", "rack1node7"),
        ("a.example.org,b.example.org", "a.example.org"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_the_first_host_of_a_list(nodes, first):
    assert first_node(nodes) == first


def test_where_tasks_meet_follows_from_job_and_step():
    found = slurm_variables(SRUN)
    assert found["MASTER_ADDR"] == "gpu03" and 20000 <= int(found["MASTER_PORT"]) < 60000
    ports = {
        slurm_variables({**SRUN, "SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(step)})[
            "MASTER_PORT"
        ]
        for job in range(4711, 4721)
        for step in range(3)
    }
    assert len(ports) == 30
    own = {"MASTER_ADDR": "gpu04-ib", "MASTER_PORT": "1234"}
    assert slurm_variables({**SRUN, **own}) == own
    of_the_job = {k: v for k, v in SRUN.items() if k != "SLURM_STEP_NODELIST"}
    assert slurm_variables({**of_the_job, "SLURM_NODELIST": "a[1-2]"})["MASTER_ADDR"] == "a1"


@pytest.mark.parametrize("started", [TORCHRUN, SRUN, {**TORCHRUN, STARTED_BY: "7"}])
def test_a_process_of_its_own_does_not_see_that_there_are_others(started):
    kept = {"PATH": "/bin", "SLURM_JOB_ID": "4711", "CUDA_VISIBLE_DEVICES": "2", "MY_RANK": "3"}
    more = {"TORCHELASTIC_RUN_ID": "x", "GROUP_RANK": "0", "ROLE_NAME": "default", "PMI_RANK": "1"}
    found = environment_alone({**started, **kept, **more})
    assert world_here(found) == World() and told_of_slurm(found) is None
    assert kept.items() <= found.items() and not set(found) & {*more, *TORCHRUN, STARTED_BY}
