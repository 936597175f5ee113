"""Whether instances of another size can take the place of those that there are without the app being down meanwhile.

Marathon replaces instances as the app's upgradeStrategy says. Of `instances` it keeps ⌈instances ·
minimumHealthCapacity⌉ that are good, and has at most ⌊instances · (1 + maximumOverCapacity)⌋ at a time; where the two
are equal it starts one above, but for an app whose volumes stay with it, of which it first stops one.
"""

from __future__ import annotations

import math

from lb7.autoscale.marathon_told import ToldApp


def unfit_size(cpus: float | None, mem: float | None) -> str:
    """Why these can't be an instance's processors and MiB (None: as they are); "" when they can."""
    if cpus is None and mem is None:
        return "nothing to change: give cpus, mem or both"
    for name, value in (("cpus", cpus), ("mem", mem)):
        if value is not None and not (math.isfinite(value) and value > 0):
            return f"{name} {value:g} is not a number above 0"
    return ""


def downtime(app: ToldApp) -> str:
    """Why replacing all instances would take the app down for a while, and what to set; "" when it would not."""
    kept = math.ceil(app.instances * app.min_health)
    most = math.floor(app.instances * (1 + app.over_capacity))
    if app.instances and not kept:
        return (
            "all instances would be stopped before new ones start: set upgradeStrategy.minimumHealthCapacity "
            f"above 0 (it is {app.min_health:g})"
        )
    if app.instances == 1 and app.resident and kept >= most:
        return (
            "its only instance has volumes that stay with it and would be stopped before the new one starts: "
            f"set upgradeStrategy.maximumOverCapacity to 1 (it is {app.over_capacity:g}), or have two instances"
        )
    return ""
