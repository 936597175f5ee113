"""A label never makes us connect to what the configuration does not allow, whatever it writes."""

from __future__ import annotations

import string
from urllib.parse import urlsplit

import pytest
import yarl
from hypothesis import example, given
from hypothesis import strategies as st

from lb7.autoscale.hook_urls import allowed, read_prefix, read_url, without_query


def may(url: str, prefix: str) -> bool:
    return allowed(read_url(url), read_prefix(prefix))


@pytest.mark.parametrize(
    ("url", "prefix"),
    [
        ("http://h.example/a", "http://h.example"),
        ("http://h.example", "http://h.example/"),
        ("http://H.example:80/a/b?x=1&y=%2F", "http://h.EXAMPLE/a"),
        ("https://h.example/a/b", "https://h.example:443/a/"),
        ("http://h.example/a", "http://h.example/a/"),
        ("http://h.example/%61/b", "http://h.example/a"),
        ("http://[::1]:8080/a", "http://[::1]:8080"),
    ],
)
def test_allowed(url: str, prefix: str) -> None:
    assert may(url, prefix)


@pytest.mark.parametrize(
    ("url", "prefix"),
    [
        ("http://h.example/ab", "http://h.example/a"),
        ("http://h.example//a", "http://h.example/a"),
        ("http://h.example/A", "http://h.example/a"),
        ("http://h.example.evil.example/a", "http://h.example"),
        ("http://h.example:8080/a", "http://h.example/a"),
        ("https://h.example/a", "http://h.example/a"),
        ("http://h.example./a", "http://h.example/a"),
        ("http://sub.h.example/a", "http://h.example/a"),
        ("http://h.example/", "http://h.example/a"),
    ],
)
def test_not_allowed(url: str, prefix: str) -> None:
    assert not may(url, prefix)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h.example/a",
        "//h.example/a",
        "file:///etc/passwd",
        "http:h.example",
        "http:///a",
        "http://",
        "http://me@h.example/",
        "http://h.example@evil.example/",
        "http://me:s3cret@h.example/",
        "http://h.example\\@evil.example/",
        "http://h.example/a/../b",
        "http://h.example/a/./b",
        "http://h.example/a/%2e%2E/b",
        "http://h.example/a/..;x=1/b",
        "http://h.example/a/%2e.%3b/b",
        "http://h.example/a%2fb",
        "http://h.example/a%5cb",
        "http://h.example/a%252e",
        "http://h.example/a%00",
        "http://h.example/a%0d%0aX",
        "http://h.example/a%",
        "http://h.example/a%zz",
        "http://h.example/a b",
        "http://h.example/a\r\nX: y",
        "http://h.example/ä",
        "http://h.example/#x",
        "http://h.example:/",
        "http://h.example:0/",
        "http://h.example:65536/",
        "http://h.example:80:80/",
        "http://h.example:８０/",
        "http://[::1/",
        "http://[::1]x/",
        "http://[fe80::1%25eth0]/",
        "http://h%2eexample/",
        "http://h.example/" + "a" * 2048,
    ],
)
def test_refused_for_both(text: str) -> None:
    for read in (read_url, read_prefix):
        with pytest.raises(ValueError, match="expected") as raised:
            read(text)
        assert "s3cret" not in str(raised.value)


def test_a_prefix_has_no_query() -> None:
    for text in ("http://h.example/a?x", "http://h.example/a?"):
        with pytest.raises(ValueError, match="without query"):
            read_prefix(text)


def test_the_name_of_a_url_has_no_query() -> None:
    assert read_url("https://h.example/a?token=s3cret").name == "https://h.example/a"


WORDS = (
    "http:// https:// h.example evil.example :80 :8080 / // a hooks .. . %2e %2F %5c \\ @ : ? # ; %25 [ ] ::1 %61 & = é"
)
PIECES = st.sampled_from([*WORDS.split(), " ", "\t", "\n", "\x00"])
TEXTS = st.lists(PIECES, max_size=12).map("".join) | st.text(string.printable, max_size=60)


@given(TEXTS)
@example("http://h.example/hooks/..%2fadmin")
def test_what_is_allowed_goes_where_the_prefix_says(text: str) -> None:
    try:
        url = read_url(text)
    except ValueError:
        return
    prefix = read_prefix("http://h.example/hooks")
    sent = yarl.URL(text, encoded=True)  # what the request is made of
    assert (sent.scheme, sent.raw_host and sent.raw_host.strip("[]").lower(), sent.port) == (
        url.origin[0],
        url.origin[1].strip("[]"),
        url.origin[2],
    )
    assert sent.raw_user is None
    if allowed(url, prefix):
        assert (sent.scheme, (sent.raw_host or "").lower(), sent.port) == ("http", "h.example", 80)
        path = yarl.URL(text).path  # decoded, with dot segments taken out
        assert path == "/hooks" or path.startswith("/hooks/")
        assert ".." not in urlsplit(text).path.split("/")


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=4), st.lists(st.sampled_from(["a", "b", "c"]), max_size=4))
def test_whole_segments_count(url: list[str], prefix: list[str]) -> None:
    path, start = "".join(f"/{name}" for name in url), "".join(f"/{name}" for name in prefix)
    assert may(f"http://h.example{path}", f"http://h.example{start}") is (url[: len(prefix)] == prefix)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://h/a", "http://h/a"),
        ("http://h/a?key=hush", "http://h/a?***"),
        ("http://me:hush@h/a?key=hush", "http://***@h/a?***"),
        ("http://me:hu@sh@h", "http://***@h"),
        ("?hush", "?***"),
        ("", ""),
    ],
)
def test_what_people_see_of_a_url(text: str, shown: str) -> None:
    assert without_query(text) == shown
