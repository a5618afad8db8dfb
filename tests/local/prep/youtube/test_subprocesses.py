"""Programs run for us: what they write, and their end."""

import sys
import threading
import time

import pytest

from local.cli.exit_status import StoppedError
from local.prep.youtube.subprocesses import Subprocesses, TimeLimitError

FOREVER = [sys.executable, "-c", "import time; print('on', flush=True); time.sleep(600)"]


def run(code, **options):
    return Subprocesses().run([sys.executable, "-c", code], timeout_s=60, **options)


def test_what_programs_write_comes_back():
    ended = run("import sys; print('out é'); print('err', file=sys.stderr); sys.exit(3)")
    assert ended == (3, "out é\n", "err\n")


def test_bytes_that_are_no_text_do_no_harm():
    assert run(r"import sys; sys.stdout.buffer.write(b'a\xff')").out == "a\ufffd"


def test_programs_cannot_ask_us():
    assert run("import sys; print(sys.stdin.read() == '')").out == "True\n"


def test_a_program_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        Subprocesses().run([str(tmp_path / "nothing")], timeout_s=60)


def test_too_long_is_ended():
    with pytest.raises(TimeLimitError):
        Subprocesses().run(FOREVER, timeout_s=0.5)


def test_stop_ends_all_and_lets_none_start():
    subprocesses, ends = Subprocesses(), []

    def work():
        with pytest.raises(StoppedError):
            subprocesses.run(FOREVER, timeout_s=600)
        ends.append(True)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while len(subprocesses._running) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    subprocesses.stop()
    for thread in threads:
        thread.join(60)
    assert ends == [True] * 3
    with pytest.raises(StoppedError):
        subprocesses.run(FOREVER, timeout_s=600)
    with pytest.raises(StoppedError):
        subprocesses.wait(600)
