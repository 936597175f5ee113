"""What the types can't say: addresses, names, keys that need each other, files."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from agent import checks
from agent.config import ConfigError, load_text

MESOS = "[mesos]\nmasters = ['m:5050']\n"
NAME = "expected a DNS name (labels of 1 to 63 letters, digits, '-' and '_'), got "
LISTEN = "expected IP:PORT, [IPv6]:PORT or :PORT, got "
ZK = "[zookeeper]\nhosts = ['z:2181']\n"
MASTER = "expected HOST:PORT or http(s)://HOST:PORT, got "


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[mesos]", "mesos.masters: expected at least one master, HOST:PORT or http(s)://HOST:PORT, or zk"),
        (MESOS + "zk = 'z:2181'", "mesos.zk: expected zk://HOST:PORT,…/PATH, got 'z:2181'"),
        (MESOS + "zk = 'zk://bob:s3cret@z:x/m'", "mesos.zk: expected a port from 0 to 65535 at the end of 'z:x'"),
        (MESOS + "zk = 'zk://bob@z/m'", "mesos.zk: expected zk://USER:PASSWORD@HOST:PORT,…/PATH"),
        ("[zookeeper]", "zookeeper.hosts: expected at least one HOST or HOST:PORT"),
        ("[zookeeper]\nhosts = [':1']", "zookeeper.hosts[0]: expected HOST or HOST:PORT, got ':1'"),
        (ZK + "root = 'pharos'", "zookeeper.root: expected a path such as /mesos, got 'pharos'"),
        (ZK + "auth = 'digest'\nsecret = 'x'", 'zookeeper.principal: auth = "digest" needs the user name'),
        (ZK + "auth = 'sasl'\nprincipal = 'x'", 'zookeeper.secret: auth = "sasl" needs secret_file (or secret)'),
        (ZK + "ca_file = 'x'", "zookeeper.tls: ca_file and cert_file are for TLS: set tls = true"),
        (
            ZK + "[serversets]",
            """serversets.roots: expected at least one path and its names' end, as { "/aurora" = "aurora" }""",
        ),
        (
            "[serversets]\nroots = { '/aurora' = 'aurora' }",
            "serversets.zk: expected zk://HOST:PORT,…, or a section [zookeeper]",
        ),
        (ZK + "[serversets]\nroots = { 'a' = 'x' }", "serversets.roots.\"a\": expected a path such as /mesos, got 'a'"),
        *(
            (f"[mesos]\nmasters = ['{text}']", f"mesos.masters[0]: {MASTER}'{text}'")
            for text in ("m", "m:0", "m:70000", ":5050", "ftp://m:5050", "m:5050/x", "10.0.0.300:5050", "a b:5050", "")
        ),
        (
            "[mesos]\nmasters = ['http://joe:pass@m:5050']",
            "mesos.masters[0]: credentials don't belong here: set auth, principal and secret_file",
        ),
        (
            "[mesos]\nmasters = ['m:5050', 'http://M:5050']",
            "mesos.masters[1]: 'http://M:5050' is listed twice; the order of the masters numbers master0, master1, …",
        ),
        (MESOS + "auth = 'basic'\nsecret = 'x'", 'mesos.principal: auth = "basic" needs the user name'),
        (MESOS + "auth = 'basic'\nprincipal = 'x'", 'mesos.secret: auth = "basic" needs secret_file (or secret)'),
        (
            MESOS + "auth = 'basic'\nprincipal = 'x'\nsecret = 'x'\nsecret_file = 'y'",
            "mesos.secret: expected one of secret and secret_file, got both",
        ),
        (MESOS + "auth = 'iam'", 'mesos.iam_config_file: auth = "iam" needs the service account file'),
        (MESOS + "cert_file = 'x'", "mesos.key_file: cert_file is set: cert_file and key_file go together"),
        (
            "[dns]\nlisten = ['0.0.0.0:53']\nforward = ['127.0.0.11', '127.0.0.1', '10.0.0.1']",
            "dns.forward: '127.0.0.1' is listened on here: questions would go round in a circle",
        ),
        (
            "[dns]\nlisten = ['127.0.0.1:5300']\nzones = { 'a.test' = ['127.0.0.1:5300', '127.0.0.1:53'] }",
            "dns.zones.\"a.test\": '127.0.0.1:5300' is listened on here: questions would go round in a circle",
        ),
        (MESOS + "timeout = 0", "mesos.timeout: expected more than zero"),
        ("drain_timeout = '4000d'", "drain_timeout: expected at most ten years"),
        ("[api]\nkey_file = 'x'", "api.cert_file: key_file is set: cert_file and key_file go together"),
        ("[admin]\nkey_file = 'x'", "admin.cert_file: key_file is set: cert_file and key_file go together"),
        (
            "[api]\nclient_ca_file = 'x'",
            "api.client_ca_file: client certificates need TLS: set cert_file and key_file too",
        ),
        *(
            (f"[{section}]\nlisten = ['{text}']", f"{section}.listen[0]: {LISTEN}'{text}'")
            for section in ("dns", "api", "admin")
            for text in ("10.0.0.1", "host:53", "::1", "[::1]", "1.2.3.4:x", "1.2.3:53", "[::1]53")
        ),
        (
            "[api]\nlisten = ['127.0.0.1:1']\n[admin]\nlisten = ['[::1]:1', '127.0.0.1:1']",
            "admin.listen[1]: '127.0.0.1:1' is already taken by api.listen[0]",
        ),
        ("[dns]\nlisten = [':53', ':53']", "dns.listen[1]: ':53' is already taken by dns.listen[0]"),
        (
            "[dns]\nlisten = [':53']\ntls_listen = [':853', ':53']\ncert_file = 'x'\nkey_file = 'y'",
            "dns.tls_listen[1]: ':53' is already taken by dns.listen[0]",
        ),
        (
            "[dns]\ntls_listen = [':853']",
            "dns.cert_file: tls_listen needs a certificate: set cert_file and key_file",
        ),
        ("[dns]\ncert_file = 'x'", "dns.key_file: cert_file is set: cert_file and key_file go together"),
        ("[dns]\ntls_listen = ['dot']\ncert_file = 'x'\nkey_file = 'y'", f"dns.tls_listen[0]: {LISTEN}'dot'"),
        *(
            (f"[dns]\n{key} = '{name}'", f"dns.{key}: {NAME}'{name}'")
            for key in ("domain", "directory", "soa_mname", "soa_rname")
            for name in ("a..b", "a b", "-a", "a-", "x" * 64, ".".join(["abcdefg"] * 40))
        ),
        ("[dns]\ndomain = 'mesos.'", f"dns.domain: {NAME}'mesos.'; leave out the trailing dot"),
        (
            "[dns]\ndomain = 'x.mesos.a.example'\ndirectory = 'A.example'",
            "dns.directory: its zone 'mesos.A.example' overlaps with domain 'x.mesos.a.example'",
        ),
        *(
            (f"[dns]\nforward = ['{text}']", f"dns.forward[0]: expected IP or IP:PORT, got '{text}'")
            for text in ("dns.example", "8.8.8.8:0", ":53", "8.8.8", "[::1", "")
        ),
        ("[dns]\ntransfer = ['10.0.0.0/8', 'ns2']", "dns.transfer[1]: expected an IP address or network, got 'ns2'"),
        ("[dns]\nnotify = ['ns2']", "dns.notify[0]: expected IP or IP:PORT, got 'ns2'"),
        (
            "[dns]\nlisten = [':53', '127.0.0.1:54', '127.0.0.1:55']\nworkers = 22",
            "dns.workers: for each of 3 addresses is more than 64 processes in all",
        ),
        ("[dns]\nforward = ['8.8.8.8', '8.8.8.8:53']", "dns.forward[1]: '8.8.8.8:53' is listed twice"),
        ("[dns]\nzones = { 'a..b' = ['8.8.8.8'] }", f"dns.zones.\"a..b\": {NAME}'a..b'"),
        ("[dns]\nzones = { a = [] }", 'dns.zones."a": expected at least one IP[:PORT]'),
        ("[dns]\nzones = { a = ['x'] }", "dns.zones.\"a\"[0]: expected IP or IP:PORT, got 'x'"),
        (
            "[dns]\nzones = { 'x.Mesos' = ['8.8.8.8'] }",
            "dns.zones.\"x.Mesos\": lies in domain 'mesos', which is answered here",
        ),
        ("[dns]\nip_sources = ['host', 'host']", "dns.ip_sources: a source is listed twice in ['host', 'host']"),
    ],
)
def test_refused(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(text, "f.toml")
    assert str(caught.value) == f"f.toml: {expected}"


@pytest.mark.parametrize(
    "text",
    [
        "[mesos]\nmasters = ['http://m-1.example:5050', 'https://10.0.0.1:5050/', '[fd00::1]:5050', 'M_2:1']",
        MESOS + "zk = 'zk://z:2181/mesos'",
        "[mesos]\nzk = 'zk://bob:s3cret@z1:2181,z2/mesos'\nscheme = 'https'",
        "[mesos]\nzk = 'file:///etc/mesos/zk'",
        ZK + "auth = 'sasl'\nprincipal = 'x'\nsecret_file = 'y'\ntls = true\nca_file = 'z'",
        ZK + "[serversets]\nroots = { '/aurora' = 'aurora', '/nerve/services' = 'nerve.zk' }\nhold = 0",
        MESOS + "auth = 'basic'\nprincipal = 'x'\nsecret_file = 'y'",
        MESOS + "auth = 'iam'\niam_config_file = 'y'\nresync = 0\nreregister_timeout = 0",
        "[dns]\nlisten = [':53', '[::]:53', '127.0.0.1:0', '127.0.0.2:0']\ndirectory = ''\nsoa_mname = 'ns1.x'",
        "[dns]\nforward = ['8.8.8.8', '8.8.8.8:54', '::1', '[::1]:54']\nzones = { 'corp.example' = ['10.0.0.1'] }",
        "[dns]\ndomain = 'xmesos'\nzones = { 'notxmesos' = ['10.0.0.1'] }",
        "[api]\nlisten = ['127.0.0.1:0']\n[admin]\nlisten = ['127.0.0.1:0']",
        "[api]\nlisten = ['0.0.0.0:53']\n[dns]",
    ],
)
def test_accepted(text: str) -> None:
    load_text(text, "f.toml")


@pytest.mark.parametrize(
    ("section", "keys"),
    [
        ("mesos", "ca_file secret_file cert_file key_file iam_config_file"),
        ("dns", "cert_file key_file"),
        ("api", "cert_file key_file client_ca_file token_file"),
        ("admin", "cert_file key_file token_file"),
    ],
)
def test_every_file_that_is_named_must_be_readable(section: str, keys: str, tmp_path: Path) -> None:
    lines = "".join(f"{key} = '{tmp_path / key}'\n" for key in keys.split())
    config = load_text(f"[{section}]\n" + ("masters = ['m:5050']\n" if section == "mesos" else "") + lines, "f.toml")
    assert {problem.path for problem in checks.file_problems(config)} == {f"{section}.{key}" for key in keys.split()}
    for key in keys.split():
        (tmp_path / key).write_text("x")
    assert not list(checks.file_problems(config))


def test_the_file_of_cookie_secrets_is_read(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    config = load_text(f"[dns]\ncookie_secret_file = '{path}'", "f.toml")

    def found() -> list[str]:
        return [str(problem) for problem in checks.file_problems(config)]

    assert found() == [f"dns.cookie_secret_file: can't read '{path}': No such file or directory"]
    path.write_text("5ecret" * 5)
    expected = "expected 32 hexadecimal digits a line, not what line 1 of"
    assert found() == [f"dns.cookie_secret_file: {expected} '{path}' holds"]
    path.write_text("0123456789abcdef0123456789ABCDEF\n")
    assert found() == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[dns]\n[file]\npaths = ['x']", []),
        (
            "[dns]",
            ["neither [mesos], [marathon], [serversets], [file] nor [relay]: there is nothing to learn names from"],
        ),
        (MESOS, ["neither [dns], [resolver] nor [api]: nobody can ask for names"]),
        ("[api]\n[file]", ["file.paths: is empty: [file] has no effect"]),
        (
            "[api]\n" + MESOS + "zk = 'zk://bob:s3cret@z/m'\ntls_verify = false",
            [
                "mesos.zk: holds a password: move the URL to a file of mode 0600 and set file:///PATH",
                "mesos.tls_verify: is off: whoever can answer in a master's place decides every name",
            ],
        ),
        (
            "[dns]\n[file]\npaths = ['x']\n[admin]\nlisten = ['127.0.0.1:1', ':2']",
            ["admin.listen: other machines can reach it and no token_file is set"],
        ),
        (
            "[dns]\ntransfer = ['10.0.0.0/8', 'fd00::/9']\nnotify = ['10.0.0.53', '[fd00::1]:54']\n[file]\npaths=['x']",
            [],
        ),
        (
            "[file]\npaths = ['x']\n[dns]\ntransfer = ['10.0.0.53', '::/0']\nnotify = ['10.0.0.54:53']",
            [
                "dns.transfer[1]: '::/0' lets everybody have whole zones",
                "dns.notify[0]: '10.0.0.54:53' is told of changes and may not have them: see transfer",
            ],
        ),
    ],
)
def test_advice(text: str, expected: list[str]) -> None:
    assert [str(problem) for problem in checks.advice(load_text(text, "f.toml"))] == expected


def test_more_connections_than_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    (problem,) = checks.advice(load_text("[dns]\ntcp_clients = 3841\n[file]\npaths = ['x']", "f.toml"))
    assert str(problem) == (
        "dns.tcp_clients: is more than the open files of this process are enough for; 3840 are used "
        "(ulimit -Hn, LimitNOFILE=)"
    )
    assert not list(checks.advice(load_text("[dns]\ntcp_clients = 3840\n[file]\npaths = ['x']", "f.toml")))
