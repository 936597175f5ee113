"""Which tasks go when an app shrinks: first those that do not serve, then those whose loss disturbs least.

The order: not ready before ready, the youngest of them first; of the ready ones those with the fewest requests in
flight; of these one on the agent that has most of the app's tasks then, so that what is left stays spread out; of these
the youngest. A task whose start is not known counts as young.

Tasks beyond the number of instances are such as were replaced: out of reach, or being killed. Marathon counts them no
more, so that to remove one would cost another, which nobody chose: of those that do not serve the oldest are left out.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from lb7.autoscale.scaled_app import AppTask


def victims(tasks: Sequence[AppTask], active: Mapping[str, int], before: int, after: int) -> tuple[str, ...]:
    """Ids of the tasks to remove, worst first. `active`: requests in flight by task id (none told: 0).

    At most `before` - `after`, and never so many that fewer than `after` tasks are left.
    """
    count = min(before - after, len(tasks) - after)
    if count <= 0:
        return ()
    idle = sorted((task for task in tasks if not task.ready), key=_youngest)
    replaced = {task.id for task in idle[max(0, len(idle) - max(0, len(tasks) - before)) :]}
    idle, tasks = idle[: len(idle) - len(replaced)], [task for task in tasks if task.id not in replaced]
    chosen = [task.id for task in idle[:count]]
    gone = set(chosen)
    on_agent = Counter(_agent(task) for task in tasks if task.id not in gone)
    by_load: defaultdict[int, list[AppTask]] = defaultdict(list)
    for task in tasks:
        if task.ready:
            by_load[active.get(task.id, 0)].append(task)
    for load in sorted(by_load):
        if len(chosen) == count:
            break
        chosen += _of_equals(by_load[load], on_agent, count - len(chosen))
    return tuple(chosen)


def _of_equals(tasks: Sequence[AppTask], on_agent: Counter[str], count: int) -> list[str]:
    """Some of equally busy tasks: each from the agent that has most then. Takes them off `on_agent`."""
    waiting: defaultdict[str, list[AppTask]] = defaultdict(list)
    for task in sorted(tasks, key=_youngest, reverse=True):
        waiting[_agent(task)].append(task)  # the youngest last
    heap = [(-on_agent[agent], _youngest(its[-1]), agent) for agent, its in waiting.items()]
    heapq.heapify(heap)
    chosen: list[str] = []
    while heap and len(chosen) < count:
        _, _, agent = heapq.heappop(heap)
        chosen.append(waiting[agent].pop().id)
        on_agent[agent] -= 1
        if waiting[agent]:
            heapq.heappush(heap, (-on_agent[agent], _youngest(waiting[agent][-1]), agent))
    return chosen


def _youngest(task: AppTask) -> tuple[float, str]:
    return (-(task.started or math.inf), task.id)


def _agent(task: AppTask) -> str:
    return task.node_id or task.host
