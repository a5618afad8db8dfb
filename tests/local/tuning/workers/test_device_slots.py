"""Where jobs compute: GPUs in turn, shares of the cores, and what is refused."""

from __future__ import annotations

import pytest

from desed_task.errors import InputError
from desed_task.parallel import available_cores
from local.tuning.workers import device_slots
from local.tuning.workers.device_slots import DeviceSlot, choose_slots, visible_gpus

CARDS = {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}


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
