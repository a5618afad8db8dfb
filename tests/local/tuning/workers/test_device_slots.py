"""Where jobs compute: GPUs in turn, shares of the cores, and what is refused."""

from __future__ import annotations

import pytest

from desed_task.errors import InputError
from desed_task.parallel import available_cores
from local.processes.world import World
from local.tuning.workers import device_slots
from local.tuning.workers.device_slots import DeviceSlot, choose_slots, visible_gpus

CARDS, NO_CARD = {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, {"CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    monkeypatch.setattr(device_slots, "available_cores", lambda: 8)


@pytest.mark.parametrize(
    ("value", "gpus"),
    [
        ("2,3", ["2", "3"]),
        (" GPU-8f3a , MIG-77", ["GPU-8f3a", "MIG-77"]),
        ("", []),
        ("-1", []),
        ("1,-1,2", ["1"]),  # as CUDA reads it
    ],
)
def test_cards_given_from_outside_are_respected(value, gpus):
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": value}, lambda: 9) == gpus


def test_without_word_from_outside_all_cards_count():
    assert visible_gpus({}, lambda: 2) == ["0", "1"]
    assert [s.gpu for s in choose_slots(None, 1, outside={}, count_gpus=lambda: 3)] == [
        "0",
        "1",
        "2",
    ]
    assert choose_slots(None, 1, outside={}, count_gpus=lambda: 0) == [DeviceSlot(0, None, 8)]


def test_jobs_take_cards_in_turn_and_share_the_cores():
    found = choose_slots(6, 2, outside=CARDS)
    assert [slot.gpu for slot in found] == ["0", "1", "2", "3", "0", "1"]
    assert {slot.threads for slot in found} == {1}
    assert len(choose_slots(None, 2, outside=CARDS)) == 8
    assert [slot.threads for slot in choose_slots(2, 1, outside={"CUDA_VISIBLE_DEVICES": ""})] == [
        4,
        4,
    ]
    assert [str(slot) for slot in (*found[:1], DeviceSlot(0, None, 1), DeviceSlot(0, None, 4))] == [
        "GPU 0",
        "1 core",
        "4 cores",
    ]


def test_more_jobs_than_places_are_refused():
    with pytest.raises(InputError) as error:
        choose_slots(5, 1, outside=CARDS)
    assert "--n_jobs 5: 4 GPUs are visible (0, 1, 2, 3), for 1 each; give at most" in str(
        error.value
    )
    assert "--jobs_per_gpu 2" in str(error.value)
    with pytest.raises(InputError, match="--n_jobs 9: this machine has no GPU and 8 usable cores"):
        choose_slots(9, 1, outside={"CUDA_VISIBLE_DEVICES": ""})
    with pytest.raises(InputError, match="--jobs_per_gpu 2: there is no GPU"):
        choose_slots(2, 2, outside={"CUDA_VISIBLE_DEVICES": ""})


# ---- --devices


@pytest.mark.parametrize(
    ("devices", "n_jobs", "per_gpu", "gpus"),
    [
        ("2", None, 1, ["4", "5"]),
        ("all", None, 1, ["4", "5", "6", "7"]),
        ("1,3", None, 1, ["4", "6"]),
        ("4,1", None, 1, ["7", "4"]),
        ("1,3", None, 2, ["4", "6", "4", "6"]),
        ("1,3", 1, 1, ["4"]),
        ("1", None, 1, ["4"]),
    ],
)
def test_devices_say_which_cards_trials_run_on(devices, n_jobs, per_gpu, gpus):
    cards = {"CUDA_VISIBLE_DEVICES": "4,5,6,7"}
    assert [s.gpu for s in choose_slots(n_jobs, per_gpu, devices=devices, outside=cards)] == gpus


@pytest.mark.parametrize(
    ("devices", "n_jobs", "message"),
    [
        ("5", None, "--devices 5: this machine has 4 GPUs"),
        ("1,9", None, "--devices 1,9: this machine has 4 GPUs"),
        ("1,3", 3, r"--n_jobs 3: 2 GPUs are visible \(0, 2\), for 1 each; give at most --n_jobs 2"),
        ("1", 2, r"--n_jobs 2: 1 GPU is visible \(0\), for 1 each; give at most --n_jobs 1"),
    ],
)
def test_cards_that_are_not_there_are_refused(devices, n_jobs, message):
    with pytest.raises(InputError, match=message):
        choose_slots(n_jobs, 1, devices=devices, outside=CARDS)


@pytest.mark.parametrize(
    ("devices", "n_jobs", "threads"),
    [("2", None, [4, 4]), ("3", None, [2, 2, 2]), ("2", 1, [8]), ("all", None, [8])],
)
def test_on_a_cpu_devices_are_trials_at_a_time(devices, n_jobs, threads):
    found = choose_slots(n_jobs, 1, devices=devices, outside=NO_CARD)
    assert [slot.threads for slot in found] == threads and {slot.gpu for slot in found} == {None}


@pytest.mark.parametrize(
    ("devices", "n_jobs", "message"),
    [
        ("1,2", None, "--devices 1,2: PyTorch finds no GPU on this machine"),
        ("9", None, "--devices 9: this machine has no GPU and 8 usable cores; give at most"),
        ("2", 3, "--n_jobs 3: --devices 2 leaves this process 2 trials at a time"),
    ],
)
def test_what_a_cpu_does_not_have_is_refused(devices, n_jobs, message):
    with pytest.raises(InputError, match=message):
        choose_slots(n_jobs, 1, devices=devices, outside=NO_CARD)


# ---- several processes on a machine


def shares(starter, size, n_nodes=1, **arguments):
    """Cards and threads of each process of a machine, without --n_jobs."""
    worlds = [World(rank, size * n_nodes, rank, size, starter) for rank in range(size)]
    found = [choose_slots(None, 1, world=world, **arguments) for world in worlds]
    return [[(slot.gpu, slot.threads) for slot in slots] for slots in found]


@pytest.mark.parametrize("starter", ["torchrun", "slurm"])
def test_processes_share_the_devices_of_their_machine(starter):
    assert shares(starter, 2, outside=CARDS) == [[("0", 2), ("2", 2)], [("1", 2), ("3", 2)]]
    assert shares(starter, 4, outside=CARDS) == [[(str(n), 2)] for n in range(4)]
    assert shares(starter, 3, outside=CARDS)[0] == [("0", 1), ("3", 1)]
    assert shares(starter, 2, outside=CARDS, devices="2,4") == [[("1", 4)], [("3", 4)]]
    # One process per machine takes all of them.
    assert shares(starter, 1, 2, outside=CARDS) == [[(str(n), 2) for n in range(4)]]
    assert shares(starter, 2, outside=NO_CARD) == [[(None, 4)], [(None, 4)]]
    assert shares(starter, 2, outside=NO_CARD, devices="3") == [
        [(None, 2), (None, 2)],
        [(None, 4)],
    ]


@pytest.mark.parametrize(
    ("variables", "cards"),
    [
        ({"CUDA_VISIBLE_DEVICES": "3"}, ["3"]),
        ({"CUDA_VISIBLE_DEVICES": "2,3", "SLURM_GPUS_PER_TASK": "2"}, ["2", "3"]),
        ({"CUDA_VISIBLE_DEVICES": "2,3", "SLURM_GPUS_PER_TASK": "a100:2"}, ["2", "3"]),
        ({"CUDA_VISIBLE_DEVICES": "2,3", "SLURM_GPUS_PER_TASK": "1"}, ["2"]),
        ({"CUDA_VISIBLE_DEVICES": "2,3"}, ["2"]),
    ],
)
def test_slurm_may_show_each_process_its_own_cards_only(variables, cards):
    first = shares("slurm", 2, outside=variables, devices=None)[0]
    assert [gpu for gpu, _ in first] == cards


def test_cores_of_a_task_are_those_that_it_was_given():
    outside = {**NO_CARD, "SLURM_CPUS_PER_TASK": "6"}
    assert shares("slurm", 2, outside=outside) == [[(None, 6)]] * 2
    assert shares("torchrun", 2, outside=outside) == [[(None, 4)]] * 2


@pytest.mark.parametrize(
    ("starter", "size", "arguments", "message"),
    [
        ("torchrun", 5, {"outside": CARDS}, "4 GPUs: torchrun or SLURM has started 5 processes"),
        ("slurm", 3, {"outside": CARDS, "devices": "2"}, "--devices 2: torchrun or SLURM has"),
        ("torchrun", 2, {"outside": {"CUDA_VISIBLE_DEVICES": "3"}}, "1 GPU: torchrun or SLURM"),
    ],
)
def test_more_processes_than_devices_are_refused(starter, size, arguments, message):
    with pytest.raises(InputError, match=f"{message}.* on this machine; start at most one per dev"):
        shares(starter, size, **arguments)
    with pytest.raises(InputError, match="--devices 1: torchrun or SLURM has started 2 processes"):
        shares("torchrun", 2, outside=NO_CARD, devices="1")


def test_a_process_sees_its_card_and_takes_its_share():
    found = DeviceSlot(1, "3", 2).environment({**CARDS, "PATH": "/bin"})
    assert found == {
        "CUDA_VISIBLE_DEVICES": "3",
        "OMP_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
        "PATH": "/bin",
    }
    # The tuner itself computes with all cores, which its environment says.
    outside = {"OMP_NUM_THREADS": "7", "MKL_NUM_THREADS": "7", "GOMP_SPINCOUNT": "5"}
    assert DeviceSlot(0, None, 2).environment(outside) == {
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
        "GOMP_SPINCOUNT": "5",
    }


@pytest.mark.parametrize("cards", [CARDS, {"CUDA_VISIBLE_DEVICES": ""}])
def test_a_number_that_the_user_has_chosen_is_that_of_each_job(cards):
    assert {slot.threads for slot in choose_slots(4, 1, threads=7, outside=cards)} == {7}
    assert {slot.threads for slot in choose_slots(4, 1, outside=cards)} == {2}


def test_cores_and_cards_of_this_machine_can_be_asked_for(monkeypatch):
    monkeypatch.undo()
    assert available_cores() >= 1
    assert device_slots._count_gpus() >= 0
