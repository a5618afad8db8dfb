"""`python -m benchmarks` as a command, on small sizes, and the parts that figures come from."""

import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import absent, demo, embedding, encoders, loading, projection, report, running
from benchmarks.__main__ import main, options_of, parse_args
from benchmarks.absent import stand_in
from benchmarks.bench import Bench, Options, Row, Work, row_of
from benchmarks.machine import Machine, Peak
from benchmarks.macs import network_macs
from benchmarks.made import Made, Sizes, durations, maestro_names
from benchmarks.projection import PUBLISHED, Parts, Schedule
from benchmarks.scoring import event_bytes, random_scores
from benchmarks.step import Step
from benchmarks.timing import Stopwatch, Timing
from benchmarks.training import Real
from desed_task.encoders.macs import encoder_macs
from desed_task.encoders.registry import kinds
from desed_task.errors import InputError
from desed_task.evaluation.scores import Detections
from local.config import load_config
from local.data.datamodule import SedDataModule
from local.sed_trainer_pretrained import SEDTask4
from local.training.macs import count_macs
from tests.fork_server import run as run_forked
from tests.local.data.test_splits import split_train_files
from tests.undrawn import VARIABLE

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
PARTS = ("features", "student", "teacher", "backward", "optimizer", "whole")
MODULE = "import runpy; runpy.run_module('benchmarks', run_name='__main__')"
STORES = ("files", "packed-disk", "packed-ram", "packed-half-ram")


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """In a forked process without pictures; the command without a package has one of its own."""
    return run_forked(
        [sys.executable, "-c", MODULE, *map(str, arguments)],
        cwd=ROOT,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": str(ROOT), VARIABLE: "1"},
    )


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A quick run of everything: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("benchmarks")
    done = command(
        *("--quick", "--confirm", "--epochs", 2, "--steps", 2, "--threads", 1),
        *("--output", folder / "all.json", "--work", folder / "work"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


@pytest.fixture(scope="module")
def config():
    return running.small(load_config(ROOT / "confs" / "pretrained.yaml"))


def test_every_part_has_its_rows(quick):
    folder, printed = quick
    found = json.loads((folder / "all.json").read_text())
    names = [row["name"] for row in found["rows"]]
    wanted = [f"step/{part}" for part in PARTS]
    wanted += [f"loading/{what}/{store}" for store in STORES for what in ("item", "batch")]
    wanted += [f"{part}/{kind}" for part in ("beats", "extraction") for kind in ("32", "bf16")]
    wanted += [f"encoder/{name}/{kind}" for name in kinds() for kind in ("32", "bf16")]
    tuned = [f"finetune/{name}/{n}" for name in ("atst_frame", "beats") for n in ("once", "twice")]
    wanted += tuned
    assert all(row["memory"] > 0 for row in found["rows"] if row["name"] in tuned)
    wanted += [
        f"{stage}/{part}" for stage in ("validation", "devtest") for part in ("network", "scoring")
    ]
    wanted += [
        "devtest/sed_scores_eval",
        "scores/event-boxes",
        "scores/median-filter",
        "scores/decoding",
        "scores/tuning-median-10",
        "scores/tuning-boxes-18",
        "metrics/maestro-segments",
        "metrics/further",
        "metrics/further-with-pipsds",
        "metrics/resamples/psds",
        "metrics/resamples/psds-and-further",
    ]
    wanted += [
        f"metrics/psds{number}/{kind}"
        for number in (1, 2)
        for kind in ("exact", "sed_scores_eval", "thresholds")
    ]
    wanted += [f"metrics/{name}_f1/arrays" for name in ("intersection", "collar", "segment")]
    wanted += [f"metrics/{name}_f1/sed_scores_eval" for name in ("intersection", "collar")]
    wanted += [f"epoch/{part}" for part in ("step", "wait", "validation", "devtest")]
    assert sorted(names) == sorted(wanted)
    lines = printed.splitlines()
    assert all(any(line.startswith(f"{name} ") for line in lines) for name in names)


def test_encoders_have_a_line_each(quick):
    folder, printed = quick
    rows = json.loads((folder / "all.json").read_text())["rows"]
    row = next(row for row in rows if row["name"] == "encoder/m2d/32")
    assert row["clips"] == 2
    told = next(line for line in printed.splitlines() if line.startswith("encoder/m2d/32: "))
    assert f"{20 / row['seconds']:.4g} s of audio per second" in told
    assert told.endswith(f"{100 * row['share']:.0f} % of the float32 GEMM rate")


@pytest.mark.parametrize(
    ("name", "millions", "gmacs"),
    [
        ("beats", 90.31, 49.34),
        ("atst_frame", 85.42, 22.47),
        ("fpasst", 88.42, 23.69),
        ("asit", 85.48, 46.90),
        ("m2d", 85.49, 28.27),
    ],
)
def test_encoders_have_their_published_sizes(name, millions, gmacs):
    with torch.device("meta"):
        encoder = encoders.made_up(name)
    assert encoder.n_parameters() / 1e6 == pytest.approx(millions, abs=0.005)
    assert encoder_macs(encoder, 160000) / 1e9 == pytest.approx(gmacs, abs=0.005)


def test_rows_hold_together(quick):
    found = json.loads((quick[0] / "all.json").read_text())
    assert found["sizes"] == {
        "quick": True,
        "batch": [2, 1, 1, 2, 2],
        "precision": "32",
        "packed": True,
    }
    for row in found["rows"]:
        if "bfloat16 is slower than float32" in row["skipped"]:
            continue  # on a processor without units for it
        assert row["skipped"] == ""
        assert 0 < row["share"] < float("inf"), row
        assert row["seconds"] > 0 and row["clips"] > 0
        assert row["n_calls"] >= 1 and row["spread"] >= 0
        assert (row["macs"] > 0) == (row["bound"] == "compute")
        assert row["macs"] > 0 or row["n_bytes"] > 0
    by_name = {row["name"]: row for row in found["rows"]}
    student = by_name["step/student"]["macs"]
    assert by_name["step/backward"]["macs"] == 2 * student
    assert by_name["step/whole"]["macs"] == by_name["epoch/step"]["macs"] == 4 * student
    machine = found["machine"]
    assert machine["gemm_float32_tflops"] > 0 and machine["bandwidth_gb_s"] > 0
    assert machine["threads"] == 1 and machine["versions"]["torch"] == torch.__version__


def test_projection_and_the_run_that_confirms_it(quick):
    folder, printed = quick
    found = json.loads((folder / "all.json").read_text())["projection"]
    assert found["schedule"] == PUBLISHED._asdict()
    seconds = found["seconds"]
    assert seconds["whole"] == pytest.approx(
        sum(seconds[part] for part in ("training", "validation", "devtest"))
    )
    confirmed = found["confirmed"]
    done = confirmed["schedule"]
    assert (done["n_epochs"], done["n_steps"], done["n_validations"]) == (2, 2, 1)
    assert done["devtest_clips"] == 23 + 18 and done["validation_clips"] > 50
    for phase in ("training", "validation", "devtest"):
        ratio = confirmed["took_s"][phase] / confirmed["foretold_s"][phase]
        assert confirmed["ratio"][phase] == pytest.approx(ratio)
    assert f"took {confirmed['ratio']['whole']:.3f} of the projected time" in printed


def test_a_picture_is_drawn(quick):
    assert (quick[0] / "all.png").read_bytes().startswith(b"\x89PNG")


def test_what_the_recipe_says_is_not_between_the_rows(quick):
    folder, printed = quick
    assert "network:" not in printed and "warning" not in printed
    assert "network:" in (folder / "work" / "log.txt").read_text()


def test_some_rows_and_another_run(quick, tmp_path, capsys):
    folder, _ = quick
    target = tmp_path / "some.json"
    arguments = ["--quick", "--only", "step/student", "beats/32", "--output", str(target)]
    assert main([*arguments, "--compare", str(folder / "all.json")]) == 0
    printed = capsys.readouterr().out
    found = json.loads(target.read_text())
    assert [row["name"] for row in found["rows"]] == ["step/student", "beats/32"]
    lacking = "lacks epoch/step, epoch/wait, validation/network"
    assert found["projection"]["skipped"].startswith(lacking)
    before = {r["name"]: r for r in json.loads((folder / "all.json").read_text())["rows"]}
    row = found["rows"][0]
    ratio = before[row["name"]]["seconds"] / row["seconds"]
    compared = printed[printed.index("here") :].splitlines()
    assert f"{ratio:.2f}x" in next(line for line in compared if line.startswith("step/student"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--clips", 4), "--clips 4: a batch needs a clip of each of 5 sets; give 5 or more"),
        (("--only", "stap"), "--only stap: no such rows"),
        (("--compare", "no.json"), "no.json: no such file"),
        (("--clock", "cpu", "--threads", 2), "add --threads 1"),
    ],
)
def test_wrong_arguments_end_in_one_line(arguments, message, capsys):
    threads = torch.get_num_threads()
    try:
        assert main(["--quick", *map(str, arguments)]) == 2
    finally:
        torch.set_num_threads(threads)
    told = capsys.readouterr().err
    assert told.startswith("error: ") and message in told
    assert len(told.splitlines()) == 1


def test_without_what_all_rows_need_there_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "local.config", None)
    assert main(["--quick"]) == 2
    assert "local.config is not installed; the benchmarks need" in capsys.readouterr().err


def test_files_of_no_run_are_refused(tmp_path):
    path = tmp_path / "x.json"
    for content, message in (("{", "not JSON"), ("{}", "not of a run"), ("[1]", "not of a run")):
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            report.read(path)


# ---- parts


def test_absent_packages_are_imported_and_refuse_to_work():
    finders = list(sys.meta_path)
    try:
        assert stand_in(["numpy", "no_such_package"]) == ("no_such_package",)
        import no_such_package
        from no_such_package.inside.more import Thing

        assert issubclass(no_such_package.Error, Exception)
        uses = (lambda: Thing(1, two=2), no_such_package.function, lambda: Thing.inner.function)
        for use in uses:
            with pytest.raises(ModuleNotFoundError, match="no_such_package is not installed"):
                use()
    finally:
        sys.meta_path[:] = finders
        for name in [name for name in sys.modules if name.startswith("no_such_package")]:
            del sys.modules[name]


def test_optional_packages_are_what_the_recipe_imports():
    pins = (ROOT / "pyproject.toml").read_text()
    assert all(f'"{name}' in pins for name in absent.OPTIONAL)


def test_a_row_that_needs_an_absent_package_is_skipped_and_the_others_are_not(config, tmp_path):
    bench = a_bench(config, tmp_path, Options(quick=True))

    def lacking():
        raise ModuleNotFoundError("thop is not installed")

    bench.time("one", Work(1, 10), lacking)
    bench.time("two", Work(1, 10), lambda: None)
    assert bench.rows["one"].skipped == "thop is not installed"
    assert report.line(bench.rows["one"]).endswith("skipped: thop is not installed")
    assert bench.rows["two"].skipped == ""
    assert bench.seconds("one") is None and bench.seconds("two") is not None
    assert bench.failed == []
    bench.time("three", Work(1, 10), lambda: 1 / 0)
    assert bench.failed == ["three"]
    assert bench.rows["three"].skipped == "failed: ZeroDivisionError('division by zero')"


def test_the_command_does_without_an_optional_package(tmp_path):
    """sed_scores_eval hidden as if it were not installed."""
    program = (
        "import sys\n"
        "from benchmarks.absent import _Finder\n"
        "sys.meta_path.insert(0, _Finder(['sed_scores_eval']))\n"
        "from benchmarks.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ("--quick", "--only", "metrics/psds1", "--output", tmp_path / "a.json")
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["name"]: row for row in json.loads((tmp_path / "a.json").read_text())["rows"]}
    assert rows["metrics/psds1/sed_scores_eval"]["skipped"] == "sed_scores_eval is not installed"
    assert rows["metrics/psds1/exact"]["share"] > 0


def test_no_row_is_begun_when_the_time_is_up(config, tmp_path):
    bench = a_bench(config, tmp_path, Options(quick=True, limit_s=0.0))
    bench.time("late", Work(1, 10), lambda: pytest.fail("was called"))
    assert bench.rows["late"].skipped == "the time limit was reached"


@pytest.mark.parametrize(
    ("only", "name", "wanted"),
    [
        ((), "step/whole", True),
        (("step",), "step/whole", True),
        (("step/whole",), "step", True),
        (("step/whole",), "step/student", False),
        (("metrics/psds1",), "metrics/psds1/exact", True),
        (("beats",), "step", False),
    ],
)
def test_names_choose_rows_and_the_parts_they_are_in(config, tmp_path, only, name, wanted):
    assert a_bench(config, tmp_path, Options(only=only, quick=True)).wants(name) is wanted


def test_the_demo_is_timed_step_by_step(config, tmp_path, monkeypatch):
    """By commands that stand for the scripts: each writes 1,000 bytes where the real one does."""
    called = []

    def command(bench, step, conf):
        called.append(step)
        told = "\n".join(f"epoch {n}/4: 24 batches in {n}.5 s, loss 1" for n in range(1, 5))
        place = bench.folder / demo.STEPS.get(step, "demo/tested")
        program = (
            f"import pathlib; place = pathlib.Path({str(place)!r});"
            "place.mkdir(parents=True, exist_ok=True); (place / 'x').write_bytes(bytes(1000));"
            f"print({told!r})"
        )
        return [sys.executable, "-c", program]

    monkeypatch.setattr(demo, "_command", command)
    demo.run(everything := a_bench(config, tmp_path, Options(quick=True)))
    assert called == [] and everything.rows == {}
    demo.run(bench := a_bench(config, tmp_path, Options(only=("demo",), quick=True)))
    steps = ["corpus", "extraction", "training", "test"]
    assert called == steps
    assert list(bench.rows) == [f"demo/{s}" for s in (*steps[:3], "epoch", steps[3])]
    assert {bench.rows[f"demo/{step}"].n_bytes for step in steps} == {1000}
    assert bench.rows["demo/epoch"].seconds == 3.0  # Neither the first nor the last.
    assert all(report.line(row).startswith(name) for name, row in bench.rows.items())
    # Files that are there are not made again.
    demo.run(again := a_bench(config, tmp_path, Options(only=("demo/test",), quick=True)))
    assert called == [*steps, "test"] and list(again.rows) == ["demo/test"]
    assert again.failed == []


def test_a_step_of_the_demo_that_fails_says_why(config, tmp_path, monkeypatch):
    failing = [sys.executable, "-c", "import sys; sys.exit('no room')"]
    monkeypatch.setattr(demo, "_command", lambda *_: failing)
    demo.run(bench := a_bench(config, tmp_path, Options(only=("demo/corpus",), quick=True)))
    assert "demo/corpus ended with status 1: no room" in bench.rows["demo"].skipped


def a_bench(config, folder, options) -> Bench:
    watch = Stopwatch(CPU, repeats=1, budget_s=1.0)
    machine = Machine(watch, small=True)
    made = Made(config, Sizes.of_steps(1, config.training.batch_size, 0.01), folder / "made")
    return Bench(options, watch, machine, config, made, folder, lambda row: None)


def test_a_stopwatch_prepares_each_call_and_does_not_count_the_first():
    prepared, seen = iter(range(10)), []
    timing = Stopwatch(CPU, repeats=3).time(seen.append, lambda: next(prepared))
    assert seen == [0, 1, 2, 3] and timing.n_calls == 3
    once = Stopwatch(CPU, repeats=3, budget_s=0.0).time(lambda: None)
    assert once.n_calls == 1


def test_median_and_spread_of_times():
    timing = Timing.of([4.0, 1.0, 3.0, 2.0, 5.0])
    assert timing == (3.0, pytest.approx(2 / 3), 1.0, 5)


def test_processor_time_does_not_pass_while_one_sleeps():
    import time

    watch = Stopwatch(CPU, clock="cpu")
    start = watch.now()
    time.sleep(0.2)
    assert watch.now() - start < 0.1


def test_shares_are_of_the_better_peak():
    peaks = (Peak(1e9, 1e6), Peak(2e9, 4e6))
    timing = Timing(0.5, 0.0, 0.5, 3)
    compute = row_of("a", Work(2, macs=250_000_000), timing, peaks)
    assert (compute.bound, compute.share) == ("compute", pytest.approx(0.5))
    memory = row_of("b", Work(2, n_bytes=1_000_000), timing, peaks)
    assert (memory.bound, memory.share) == ("memory", pytest.approx(0.5))


def test_macs_of_the_published_network_are_those_of_thop_but_for_batch_norm():
    published = load_config(ROOT / "confs" / "pretrained.yaml")
    network = SEDTask4(published).sed_student
    ours, theirs = network_macs(network, published, 496), count_macs(network, published).macs
    assert 0.98 < ours / theirs < 1.0


def test_parts_of_a_step_are_the_step_of_the_recipe(config, tmp_path):
    """The loss of the parts is what SEDTask4 says of the same batch, and a step is a step."""
    bench = a_bench(config, tmp_path, Options(quick=True))
    step = Step(bench)
    before = [one.clone() for one in step.module.sed_student.parameters()]
    teacher = [one.clone() for one in step.module.sed_teacher.parameters()]
    assert len(step.batch.clip_id) == 8
    assert step.batch.source.tolist() == [0, 0, 1, 2, 3, 3, 4, 4]
    assert not step.batch.target[~step.batch.known].any()
    step.whole()
    step.whole()  # the learning rate begins at almost nothing
    pairs = zip(before, step.module.sed_student.parameters(), strict=True)
    assert any(not torch.equal(one, other) for one, other in pairs)
    pairs = zip(teacher, step.module.sed_teacher.parameters(), strict=True)
    assert any(not torch.equal(one, other) for one, other in pairs)
    assert step.schedule.step_num == 3


def test_made_corpora_are_what_training_reads(config, tmp_path):
    sizes = Sizes.of_steps(3, config.training.batch_size, 0.02)
    made = Made(config, sizes, tmp_path)
    made.make()
    data = SedDataModule(made.config)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # As published, e.g. 32-bit float.
        data.check("fit")
    lengths = {name: len(one.clip_ids) for name, one in data.loaded.items()}
    assert lengths["synth_val"] == 50
    assert lengths["devtest"] == 23
    assert lengths["maestro_real_dev"] == 18
    assert len(data.train_dataloader()) == 3
    batch = next(iter(data.train_dataloader()))
    assert batch.waveform.shape == (8, 160000) and batch.embedding.shape == (8, 128, 496)
    made.make()  # once more: nothing happens
    with pytest.raises(InputError, match="created with other sizes"):
        Made(config, replace(sizes, devtest=24), tmp_path).make()
    # The first rows are written, the others are holes that take no space.
    reader = data.loaded["synth_val"].embeddings
    for place in (0, 31, 32, 49):
        deviation = reader.frame(reader.clip_ids[place]).std()
        assert deviation == pytest.approx(1 if place < 32 else 0, abs=0.02)
    assert reader.path.stat().st_blocks * 512 < 0.8 * reader.path.stat().st_size


def test_names_and_durations_of_maestro_clips():
    names = maestro_names("maestro_real_dev", 20)
    assert names[0] == "cafe_restaurant_04-000000-001000"
    assert names[16] == "cafe_restaurant_04-000500-001500"
    lengths = dict(durations("maestro_real_dev", names))
    assert lengths["cafe_restaurant_04"] == 15.0 and lengths["residential_area_12"] == 10.0
    assert durations("devtest", ["a"]) == [("a", 10.0)]


def test_sizes_of_a_published_epoch():
    sizes = Sizes.of_steps(118, (12, 6, 6, 12, 24), 1.0)
    assert round(0.9 * sizes.weak_train) // 12 == 118
    assert (sizes.synthetic_validation, sizes.devtest, sizes.maestro_validation) == (
        2500,
        1168,
        900,
    )
    assert sizes.unlabelled // 24 == sizes.synthetic_train // 6 == 118
    names = maestro_names("maestro_real_train", sizes.maestro_train)
    assert min(len(split_train_files(names, 0.9, seed)[0]) // 12 for seed in range(5)) >= 118


def test_events_have_four_numbers():
    events = Detections(*(np.zeros(3, np.int64),) * 2, *(np.zeros(3),) * 2)
    assert (
        event_bytes(events, events)
        == sum(one.nbytes for one in (events.clip_index, events.label_index, events.onset_s) * 2)
        + 2 * events.offset_s.nbytes
    )


def test_scores_tell_of_their_targets_and_repeat():
    target = np.zeros((4, 3, 50), np.float32)
    target[:, 1, 10:30] = 1
    scores = random_scores(target, 0)
    assert scores.shape == target.shape and ((scores >= 0) & (scores <= 1)).all()
    assert scores[target > 0].mean() > scores[target == 0].mean() + 0.3
    assert np.array_equal(scores, random_scores(target, 0))
    assert not np.array_equal(scores, random_scores(target, 1))


def test_projection_adds_up():
    parts = Parts(20, 0.5, 0.1, 0.01, 0.02, 0.001, 0.002, 3.0, ())
    assert parts.of(Schedule(2, 10, 20, 1, 100, 50)) == pytest.approx(
        {"training": 12.0, "validation": 1.1, "devtest": 4.1}
    )
    whole = projection.published(parts)["seconds"]["whole"]
    assert whole == pytest.approx(3 * 300 * 118 * 0.6 + 30 * 3795 * 0.011 + 2068 * 0.022 + 3.0)
    real = Real(2, 10, 100, 50, 24.0, 1.1, 4.1, 40.0)
    ratio = projection.compared(parts, real)["ratio"]
    assert ratio["training"] == pytest.approx(2.0) and ratio["devtest"] == pytest.approx(1.0)
    assert ratio["whole"] == pytest.approx(29.2 / 17.2)
    # A run that ended before its dev-test.
    ratio = projection.compared(parts, real._replace(devtest_s=0.0))["ratio"]
    assert "devtest" not in ratio and ratio["whole"] == pytest.approx(25.1 / 13.1)


@pytest.mark.parametrize(
    ("n_clips", "rows"),
    [(60, [12, 6, 6, 12, 24]), (20, [4, 2, 2, 4, 8]), (5, [1] * 5), (7, [1, 1, 1, 1, 3])],
)
def test_batches_of_other_sizes_keep_each_sets_share(n_clips, rows):
    published = load_config(ROOT / "confs" / "pretrained.yaml")
    assert list(running.with_batch(published, n_clips).training.batch_size) == rows


def test_batch_and_repeats_are_what_was_asked_for(tmp_path):
    published = load_config(ROOT / "confs" / "pretrained.yaml")

    def opened(*arguments):
        args = parse_args([*arguments, "--only", "step"])
        return running.open_bench(published, options_of(args), CPU, tmp_path)

    bench = opened()
    assert (sum(bench.config.training.batch_size), bench.watch.repeats) == (20, 5)
    bench = opened("--clips", "60", "--repeats", "3")
    assert bench.config == published and bench.watch.repeats == 3
    assert sum(opened("--quick").config.training.batch_size) == 8
    assert options_of(parse_args(["--device", "cuda"])).n_clips is None


def test_a_projection_of_small_sizes_says_so():
    parts = Parts(8, 0.5, 0.1, 0.01, 0.02, 0.001, 0.002, 3.0, ())
    found = projection.published(parts)
    told = {quick: report.projection_lines({**found, "quick": quick})[0] for quick in (False, True)}
    assert told[False].startswith("projection of 300 epochs x 118 steps of 60 clips")
    assert told[True].startswith("projection for a small network (not representative of")


def test_parts_come_from_real_epochs_or_from_single_rows(config, tmp_path):
    bench = a_bench(config, tmp_path, Options(quick=True))
    names = ("step/whole", "loading/batch/packed-ram", "validation/network", "devtest/network")
    for name in (*names, "validation/scoring", "devtest/scoring"):
        bench.keep(Row(name, seconds=1.0, clips=10))
    parts = projection.parts_of(bench)
    assert parts.step == 1.0 and parts.devtest_files == 0.0
    assert parts.validation_clip == pytest.approx(0.2)
    bench.keep(Row("epoch/step", seconds=2.0, clips=10))
    bench.keep(Row("epoch/devtest", seconds=10.0, clips=20))
    parts = projection.parts_of(bench)
    assert parts.step == 2.0
    assert parts.devtest_files == pytest.approx(10.0 - 20 * 0.3)
    bench.keep(Row("devtest/scoring", skipped="sed_scores_eval is not installed"))
    parts = projection.parts_of(bench)
    assert parts.lacking == ("devtest/scoring",) and parts.devtest_scoring == 0.0
    bench.rows.pop("loading/batch/packed-ram")
    assert projection.parts_of(bench) == "lacks epoch/wait, devtest/scoring"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2e-6, "2 us"), (0.0123, "12.3 ms"), (4.4, "4.4 s"), (600.0, "10 min")],
)
def test_times_are_said_with_three_digits(seconds, text):
    assert report.duration(seconds) == text


def test_stores_and_precisions_have_names_of_their_own():
    assert len({store.name for store in loading.STORES}) == len(loading.STORES)
    assert {store.name for store in loading.STORES if not store.on_gpu} == set(STORES)
    assert embedding.PRECISIONS == ("32", "bf16")


def test_a_comparison_is_of_one_clip(tmp_path):
    row = Row("step/whole", seconds=2.0, clips=10, macs=1, share=0.4)
    other = replace(row, seconds=8.0, clips=20, share=0.2)
    lines = report.comparison({"rows": [row.dump()]}, {"rows": [other.dump()]})
    assert lines[1].split() == ["step/whole", "200", "ms", "400", "ms", "2.00x", "2.00x"]
