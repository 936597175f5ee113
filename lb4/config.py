"""The configuration section of lb4: what can be set, its unit, its default and its meaning."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mesos_dns.config import Duration

SCHEDULERS = ("rr", "wrr", "lc", "wlc", "sh", "mh", "dh", "sed", "nq", "lblc", "lblcr", "fo", "ovf", "twos")
"""The kernel's schedulers."""


class L4Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[l4]`: virtual addresses. A server allocates them; a node sends connections to them to live tasks."""

    dataplane: Annotated[
        Literal["auto", "ipvs", "proxy", "off"],
        Meta(
            description="what carries connections: the kernel's IPVS, or a proxy in this process; auto: IPVS where it "
            "can be had, else the proxy, else off; off: addresses are allocated and told, nothing is carried"
        ),
    ] = "auto"
    range: Annotated[str, Meta(description="IPv4 network of which named VIPs get their addresses")] = "11.0.0.0/8"
    range6: Annotated[str, Meta(description="IPv6 network of which named VIPs get their addresses")] = "fd01:c::/64"
    vip_file: Annotated[
        str, Meta(description="TOML file with VIPs beside those of task labels; it is watched; empty: none")
    ] = ""
    scheduler: Annotated[
        str, Meta(pattern=f"^({'|'.join(SCHEDULERS)})$", description="how IPVS picks a backend, where no VIP says")
    ] = "wlc"
    device: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=15,
            description="dummy device by which VIPs are reached here (`lo` where there can be none)",
        ),
    ] = "pharos0"
    node_addresses: Annotated[
        tuple[str, ...],
        Meta(description="this node's addresses, from which its own connections to VIPs come; empty: found out"),
    ] = ()
    reconcile: Annotated[
        Duration, Meta(description="time between two looks at all that the kernel has, give or take a fifth")
    ] = Duration(30)
    drain_timeout: Annotated[
        Duration, Meta(description="how long a backend that gets no new connections is kept for those it has")
    ] = Duration(60)
    masquerade: Annotated[
        bool,
        Meta(
            description="keep firewall rules (iptables): the node's address for connections whose replies would else "
            "not come back through it, port mappings leave VIPs alone, VIPs pass where forwarding is forbidden"
        ),
    ] = True
    sysctls: Annotated[bool, Meta(description="set the kernel's switches that VIPs need (README)")] = True
    tcp_timeout: Annotated[
        Duration, Meta(description="after which the kernel forgets an idle TCP connection; 0: as it is set")
    ] = Duration(8100)
    tcp_fin_timeout: Annotated[Duration, Meta(description="the same, of one that is being closed; 0: as it is set")] = (
        Duration(120)
    )
    udp_timeout: Annotated[Duration, Meta(description="the same, of UDP; 0: as it is set")] = Duration(30)
    netns_dir: Annotated[
        str,
        Meta(
            description="folder with a file for each container that has its own network and can't reach VIPs through "
            "the host; the file holds the path of its network namespace; empty: none"
        ),
    ] = ""
    take_over: Annotated[bool, Meta(description="take the place of dcos-net where its device `minuteman` is found")] = (
        False
    )
    connection_metrics: Annotated[
        bool, Meta(description="count connections that were made and that failed, from the kernel's table")
    ] = True
