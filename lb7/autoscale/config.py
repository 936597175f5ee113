"""The configuration section `[autoscale]`: what can be set, its unit, its default and its meaning."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from lb7.autoscale.policy import Policy
from mesos_dns.config import Duration


class AutoscaleConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[autoscale]`: apps of Marathon grow and shrink with their load. With `[marathon]` in the same process it stands
    for election as the one that decides; without, as on an edge, it says only which apps may sleep."""

    interval: Annotated[Duration, Meta(description="time between two decisions about an app")] = Duration(5)
    window: Annotated[Duration, Meta(description="what edges count is taken over this time")] = Duration(15)
    labels: Annotated[bool, Meta(description="take policies from labels of apps, `PHAROS_SCALE_…`")] = True
    max_instances: Annotated[
        int, Meta(ge=0, description="most instances that labels may ask for; 0: as many as they say")
    ] = 1000
    dry_run: Annotated[bool, Meta(description="change nothing, and tell what would be changed")] = False
    edges: Annotated[
        tuple[str, ...],
        Meta(description="the `[api]` of edges, http(s)://HOST[:PORT], beside those that are in the coordinator"),
    ] = ()
    token_file: Annotated[str, Meta(description="file with the bearer token of the edges' `[api]`")] = ""
    ca_file: Annotated[str, Meta(description="PEM file of the authorities that sign the edges' certificates")] = ""
    cert_file: Annotated[str, Meta(description="PEM file of the client certificate for the edges")] = ""
    key_file: Annotated[str, Meta(description="PEM file of the client certificate's key")] = ""
    tls_verify: Annotated[bool, Meta(description="verify the edges' certificates")] = True
    prometheus: Annotated[
        str, Meta(description="URL of the Prometheus server that queries are put to; empty: there is none")
    ] = ""
    prometheus_token_file: Annotated[str, Meta(description="file with the bearer token of that server")] = ""
    prometheus_ca_file: Annotated[
        str, Meta(description="PEM file of the authorities that sign its certificate; empty: the system's")
    ] = ""
    hooks: Annotated[
        tuple[str, ...],
        Meta(description="what URLs of hooks in labels may begin with; none: only hooks of this file are asked"),
    ] = ()
    drain_timeout: Annotated[
        Duration, Meta(description="longest time in which a task's requests may end before it is killed")
    ] = Duration(60)
    apps: Annotated[
        dict[str, Policy], Meta(description="policies by app id; an app's own labels then count for nothing")
    ] = {}
