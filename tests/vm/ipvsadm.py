"""What ipvsadm shows of the kernel's services: the independent reader beside Pharos' own."""

from __future__ import annotations

import ipaddress
import re
import subprocess

from lb4.services import BackendKey, Destination, Service, ServiceKey, Settings

MASQUERADED = "Masq"

_SERVICE = re.compile(
    r"(?P<protocol>TCP|UDP)\s+(?P<place>\S+) (?P<scheduler>\S+)(?P<flags> \([^)]*\))?"
    r"(?: persistent (?P<seconds>\d+))?(?: mask (?P<mask>\S+))?(?: pe (?P<engine>\S+))?\s*"
)
_DESTINATION = re.compile(r"  -> (?P<place>\S+)\s+(?P<method>\w+)\s+(?P<weight>\d+)\s+\d+\s+\d+\s*")
_THRESHOLDS = re.compile(r"  -> (?P<place>\S+)\s+(?P<upper>\d+)\s+(?P<lower>\d+)\s+\d+\s+\d+\s*")


def ipvsadm(*words: str, text: str = "") -> str:
    """Run it; what it prints."""
    done = subprocess.run(["ipvsadm", *words], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


def saved() -> list[str]:
    """All services as the lines that make them."""
    return ipvsadm("-Sn").splitlines()


def shown() -> dict[ServiceKey, Service]:
    """Services of an address by TCP or UDP with their destinations. Raises AssertionError for one that Pharos does
    not make: of another forward method, with flags."""
    limits = _thresholds()
    services: dict[ServiceKey, Service] = {}
    destinations: dict[BackendKey, Destination] = {}
    key: ServiceKey | None = None
    for line in ipvsadm("-Ln").splitlines()[3:]:
        if found := _DESTINATION.fullmatch(line):
            if key is not None:
                assert found["method"] == MASQUERADED, line
                backend = BackendKey(*_place(found["place"]))
                destinations[backend] = Destination(int(found["weight"]), *limits[key, backend])
        elif found := _SERVICE.fullmatch(line):
            assert not found["flags"], line
            assert not found["engine"], line
            key = ServiceKey(found["protocol"].lower(), *_place(found["place"]))
            destinations = {}
            services[key] = Service(_settings(key, found), destinations)
        else:
            key = None  # of a firewall mark, or SCTP
            assert re.match(r"FWM|SCTP", line), line
    return services


def _thresholds() -> dict[tuple[ServiceKey, BackendKey], tuple[int, int]]:
    limits: dict[tuple[ServiceKey, BackendKey], tuple[int, int]] = {}
    key: ServiceKey | None = None
    for line in ipvsadm("-Ln", "--thresholds").splitlines()[3:]:
        if found := _THRESHOLDS.fullmatch(line):
            if key is not None:
                limits[key, BackendKey(*_place(found["place"]))] = (int(found["upper"]), int(found["lower"]))
        else:
            protocol, place = line.split()[:2]
            key = ServiceKey(protocol.lower(), *_place(place)) if protocol in ("TCP", "UDP") else None
    return limits


def _settings(key: ServiceKey, found: re.Match[str]) -> Settings:
    if not found["seconds"]:
        return Settings(found["scheduler"])
    whole = 128 if ":" in key.address else 32
    mask = found["mask"]
    length = whole if not mask else int(mask) if mask.isdigit() else ipaddress.ip_network(f"0.0.0.0/{mask}").prefixlen
    return Settings(found["scheduler"], int(found["seconds"]), length)


def _place(text: str) -> tuple[str, int]:
    address, _, port = text.rpartition(":")
    return str(ipaddress.ip_address(address.strip("[]"))), int(port)
