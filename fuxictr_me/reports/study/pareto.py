"""Which points no other beats in both cost and metric."""


def pareto(points, larger_is_better=True):
    """The Pareto front of a cloud of points.

    A point is dominated if another has no larger cost and no worse metric, and is better in one of them.

    Args:
        points (list of (float, float)): cost and metric; a smaller cost is better.
        larger_is_better (bool): of the metric; False for logloss.

    Returns:
        list of int: positions of the points that are not dominated, cheapest first; equal points are all in it.

    Example::

        pareto([(1, 0.70), (2, 0.69), (4, 0.72)])  # [0, 2]: the second costs more than the first and is worse
    """
    sign = 1 if larger_is_better else -1
    order = sorted(range(len(points)), key=lambda n: (points[n][0], -sign * points[n][1]))
    front = []
    for n in order:
        if not front or sign * points[n][1] > sign * points[front[-1]][1] or points[n] == points[front[-1]]:
            front.append(n)
    return front
