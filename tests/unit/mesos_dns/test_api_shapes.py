"""The shapes in JSON: mesos-dns' own spelling of names, and its empty values."""

from __future__ import annotations

import msgspec

from mesos_dns import api_shapes as shapes


def test_spelling() -> None:
    assert msgspec.to_builtins(shapes.Version(version="1")) == {"Service": "Pharos", "URL": "", "Version": "1"}
    assert msgspec.to_builtins(shapes.Host()) == {"host": "", "ip": ""}
    assert msgspec.to_builtins(shapes.Service()) == {"service": "", "host": "", "ip": "", "port": ""}
    assert msgspec.to_builtins(shapes.EnumeratedTask("t", "1")) == {"name": "t", "id": "1", "records": None}
    axfr = shapes.Axfr(60, 1, 60, "m.", "r.", "mesos", shapes.AxfrRecords({}, {}, {}))
    assert list(msgspec.to_builtins(axfr)) == [
        "TTL",
        "Serial",
        "RefreshSeconds",
        "Mname",
        "Rname",
        "Domain",
        "Records",
    ]
    assert msgspec.to_builtins(axfr.records) == {"As": {}, "AAAAs": {}, "SRVs": {}}
