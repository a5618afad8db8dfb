"""The pace at which YouTube is asked, by a clock that only waiting moves on."""

import pytest

from local.prep.youtube import rate_limit
from local.prep.youtube.rate_limit import GaveUpError, RateLimiter, RateLimits
from local.prep.youtube.subprocesses import Subprocesses


class Clock(Subprocesses):
    """Time passes where somebody waits, and nowhere else."""

    now = 1000.0

    def wait(self, seconds):
        super().wait(0)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(rate_limit.time, "monotonic", lambda: clock.now)
    return clock


@pytest.fixture
def said():
    return []


@pytest.fixture
def line(clock, said):
    return RateLimiter(RateLimits(), clock, said.append)


def test_requests_are_a_pause_apart(line, clock):
    assert [line.turn() for _ in range(4)] == pytest.approx([1000, 1012, 1024, 1036])
    clock.now += 60
    assert line.turn() == pytest.approx(1096)


def test_after_a_refusal_nobody_asks_for_a_while(line, clock, said):
    line.turn()
    line.fetched()
    asked_at = line.turn()
    line.limited(asked_at, "slowly!")
    assert line.turn() == pytest.approx(1012 + 900)
    assert said == ["YouTube asks to slow down (slowly!): waiting 15 minutes, 1 of 6 times"]


def test_requests_refused_together_count_once(line, clock, said):
    line.gone()
    together = [line.turn() for _ in range(10)]
    for asked_at in together:
        line.limited(asked_at, "slowly!")
    assert len(said) == 1
    line.limited(line.turn(), "slowly!")
    assert len(said) == 2


def test_refusals_in_a_row_close_the_line(line, clock):
    line.fetched()
    for _ in range(6):
        line.limited(line.turn(), "slowly!")
    line.fetched()
    for _ in range(6):
        line.limited(line.turn(), "slowly!")
    assert line.closed is None
    line.limited(line.turn(), "slowly!")
    with pytest.raises(GaveUpError, match="refuses requests"):
        line.turn()


def test_a_refusal_at_the_start_closes_the_line(line):
    line.limited(line.turn(), "not a bot")
    assert line.closed.startswith("YouTube refuses requests (not a bot); wait an hour")


@pytest.mark.parametrize("between", ["fetched", "gone"])
def test_only_failures_in_a_row_close_the_line(line, between):
    for _ in range(9):
        line.failed("no network")
    getattr(line, between)()
    for _ in range(9):
        line.failed("no network")
    assert line.closed is None
    line.failed("no network")
    assert line.closed.startswith("10 clips in a row failed, the last one with: no network;")


def test_gone_clips_close_the_line_only_before_the_first_that_is_there(line, clock, said):
    other = RateLimiter(RateLimits(), clock, said.append)
    other.fetched()
    for _ in range(40):
        assert line.closed is None
        line.gone()
        other.gone()
    assert other.closed is None
    assert "--retry_gone" in line.closed


def test_the_first_reason_stays(line):
    line.close("one")
    line.close("two")
    assert line.closed == "one"
