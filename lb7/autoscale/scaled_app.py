"""An app that is scaled, as the decider sees it at one moment: its definition, its policy and its tasks."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from lb7.autoscale.policy import Policy
from mesos_dns.model import App, Key

ToldBy: TypeAlias = Literal["labels", "config"]
"""Where its policy is from."""


class AppTask(msgspec.Struct, frozen=True, gc=False):
    """One of the app's tasks that runs or is about to. `ready`: it serves (running, and no check of it fails or is yet
    to be passed). `host` is its agent's name or address, `node_id` the agent's id in Mesos ("": not known)."""

    id: str
    node_id: str = ""
    host: str = ""
    ready: bool = True
    started: float = 0.0


class ScaledApp(msgspec.Struct, frozen=True):
    """See the module. `group`: other apps that its traffic is shared with (the other colour of a blue-green pair)."""

    app: App
    policy: Policy
    told_by: ToldBy = "labels"
    tasks: tuple[AppTask, ...] = ()
    group: tuple[Key, ...] = ()

    @property
    def key(self) -> Key:
        """The app's key in the catalog."""
        return self.app.key
