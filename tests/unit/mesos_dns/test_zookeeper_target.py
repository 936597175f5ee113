"""zk:// URLs as Mesos writes them, and targets that tell no secret."""

from __future__ import annotations

import pytest

from mesos_dns.tls import Tls
from mesos_dns.zookeeper_target import Target, ZkUrl, check_path, hosts_text, parse_hosts, parse_zk_url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("zk://10.0.0.1:2181/mesos", ZkUrl((("10.0.0.1", 2181),), "/mesos")),
        ("zk://a:1,b:2,c/x/y/", ZkUrl((("a", 1), ("b", 2), ("c", 2181)), "/x/y")),
        ("ZK://a:1", ZkUrl((("a", 1),))),
        ("zk://a:1/", ZkUrl((("a", 1),))),
        ("zk://[fd00::1]:2181,[::1]/mesos", ZkUrl((("fd00::1", 2181), ("::1", 2181)), "/mesos")),
        ("zk://bob:s3c@ret%3a@a:1/m", ZkUrl((("a", 1),), "/m", "bob", "s3c@ret:")),
    ],
)
def test_urls(text: str, expected: ZkUrl) -> None:
    assert parse_zk_url(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "zk:", "zk://", "zk:///mesos", "http://a:1/m", "zk://a:x/m", "zk://a:70000/m", "zk://:2181/m"),
        *("zk://a:1,/m", "zk://a:0/m", "zk://a:1//m", "zk://a:1/m/../n", "zk://a:1/./m", "zk://a:1/m\0"),
        "zk://bob@a:1/m",
    ],
)
def test_what_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_zk_url(text)


def test_no_error_and_no_repr_shows_a_secret() -> None:
    with pytest.raises(ValueError) as caught:
        parse_zk_url("zk://bob:s3cret@a:x/m")
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(Target((("a", 1),), "digest", "bob", "s3cret"))
    assert "bob" in repr(Target((("a", 1),), "digest", "bob", "s3cret", Tls()))


def test_hosts_and_paths() -> None:
    assert hosts_text(parse_hosts(["a", "[fd00::1]:5", "10.0.0.1:6"])) == "a:2181,[fd00::1]:5,10.0.0.1:6"
    assert [check_path(text) for text in ("", "/", "/a", "/a/b/")] == ["", "", "/a", "/a/b"]
    with pytest.raises(ValueError, match="expected a path"):
        check_path("a")
