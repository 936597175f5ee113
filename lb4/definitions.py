"""VIPs of the VIP file, as VIP keys and fixed backends."""

from __future__ import annotations

from lb4.labels import BadLabel, address_family, protocol_of, target_name
from lb4.task_backends import Refusal
from lb4.vip import Backend, VipKey
from mesos_dns.model import Vip, VipServer, canonical_address

MAX_WEIGHT = 65535


def key_of(vip: Vip) -> VipKey:
    """The key of a VIP of the VIP file. Raises BadLabel."""
    if not 0 < vip.port < 65536:
        raise BadLabel("port", f"the port {vip.port} is not from 1 to 65535")
    return VipKey(protocol_of(vip.protocol), target_name(vip.target), vip.port)


def servers_of(vip: Vip, key: VipKey) -> tuple[tuple[Backend, ...], list[Refusal]]:
    """The fixed backends of a VIP, and those of its servers that can't be any."""
    backends: list[Backend] = []
    refused: list[Refusal] = []
    for server in vip.servers:
        address = canonical_address(server.address)
        if why := _wrong_with(server, address, key):
            refused.append(Refusal("server", f"{server.address[:100]} {server.port}", why))
        else:
            backends.append(Backend(address, server.port, server.weight, server.weight))
    return tuple(backends), refused


def _wrong_with(server: VipServer, address: str, key: VipKey) -> str:
    """Why a server can be no backend of a VIP; "" when it can."""
    if not address:
        return "its address is no IP address"
    if not 0 < server.port < 65536:
        return "its port is not from 1 to 65535"
    if not 0 <= server.weight <= MAX_WEIGHT:
        return f"its weight is not from 0 to {MAX_WEIGHT}"
    if address_family(key.name) not in (0, address_family(address)):
        return "its address is of another family than the VIP's"
    return ""
