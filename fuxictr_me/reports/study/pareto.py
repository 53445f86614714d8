"""The Pareto front of cost and metric."""

from collections.abc import Sequence


def find_pareto_front(points: Sequence[tuple[float, float]], larger_is_better: bool = True) -> list[int]:
    """Return the positions of the points that no other point dominates, cheapest first; equal points are all included.

    A point is dominated if another has no larger cost and no worse metric, and is better in one of them.

    Args:
        points: cost (smaller is better) and metric of each.
        larger_is_better: of the metric; False for logloss.

    Example::

        find_pareto_front([(1, 0.70), (2, 0.69), (4, 0.72)])  # [0, 2]: the second costs more than the first, is worse
    """
    sign = 1 if larger_is_better else -1
    order = sorted(range(len(points)), key=lambda n: (points[n][0], -sign * points[n][1]))
    front: list[int] = []
    for n in order:
        if not front or sign * points[n][1] > sign * points[front[-1]][1] or points[n] == points[front[-1]]:
            front.append(n)
    return front
