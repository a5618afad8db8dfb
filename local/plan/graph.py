"""Which stages of a plan need which: order, levels, circles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Needs = Mapping[str, Sequence[str]]


def find_cycle(needs: Needs) -> list[str]:
    """Stages that need each other in a circle, the first one again at the end; empty if none do.

    Args:
        needs: stage -> the stages that it needs; unknown ones are passed over.
    """
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        done.add(name)
        for other in needs.get(name, ()):
            if found := visit(other, (*path, name)):
                return found
        return []

    return next((found for name in needs if (found := visit(name, ()))), [])


def levels_of(needs: Needs) -> tuple[tuple[str, ...], ...]:
    """Stages in levels: those of a level need only stages of earlier levels.

    Args:
        needs: stage -> the stages that it needs, without circles.
    """
    left, found, done = dict(needs), [], set[str]()
    while left:
        level = tuple(name for name, names in left.items() if done.issuperset(names))
        found.append(level)
        done |= set(level)
        left = {name: names for name, names in left.items() if name not in done}
    return tuple(found)


def depending_on(names: Sequence[str], needs: Needs) -> set[str]:
    """Stages that need one of these, or one that does."""
    found: set[str] = set()
    while True:
        reached = found | set(names)
        more = {one for one, of in needs.items() if not reached.isdisjoint(of)} - found
        if not more:
            return found
        found |= more
