"""lb7.paths: forms of paths, and how prefixes begin them."""

from __future__ import annotations

import pytest

from lb7.paths import begins, matched_path, matched_prefix, path_forms
from lb7.table import PathPrefix


@pytest.mark.parametrize(
    ("path", "matched", "literal", "dots"),
    [
        ("/a/b", "/a/b", "/a/b", False),
        ("", "/", "/", False),
        ("*", "*", "*", False),
        ("/", "/", "/", False),
        ("/a/", "/a/", "/a/", False),
        ("/a//b///", "/a/b/", "/a//b///", False),
        ("/a/./b/.", "/a/b/", "/a/./b/.", True),
        ("/a/../b", "/b", "/a/../b", True),
        ("/../../a/..", "/", "/../../a/..", True),
        ("/a/%2e%2E/b", "/b", "/a/../b", True),
        ("/a%2f..%2Fb", "/b", "/a%2F..%2Fb", True),
        ("/a\\b%5cc", "/a/b/c", "/a\\b%5Cc", False),
        ("/a;x=1/b;y", "/a/b", "/a;x=1/b;y", False),
        ("/a/..;/b", "/b", "/a/..;/b", True),
        ("/%61%zz%2", "/a%zz%2", "/a%zz%2", False),
        ("/%252e", "/%2e", "/%2e", False),
        ("/...", "/...", "/...", False),
        ("/é%C3%A9", "/Ã©Ã©", "/Ã©Ã©", False),
    ],
)
def test_forms(path: str, matched: str, literal: str, dots: bool) -> None:
    assert path_forms(path) == (matched, literal, dots)
    assert matched_path(path) == matched


@pytest.mark.parametrize(
    ("path", "prefix", "expected"),
    [
        ("/api", PathPrefix("/api"), True),
        ("/api/x", PathPrefix("/api"), True),
        ("/apix", PathPrefix("/api"), False),
        ("/apix", PathPrefix("/api", whole=False), True),
        ("/api", PathPrefix("/api/"), False),
        ("/api/x", PathPrefix("/api/"), True),
        ("/API/x", PathPrefix("/api"), False),
        ("/API/x", PathPrefix("/Api", ignore_case=True), True),
        ("/É", PathPrefix("/é", ignore_case=True), False),
        ("/x", PathPrefix(""), True),
        ("*", PathPrefix(""), True),
        ("*", PathPrefix("/"), False),
    ],
)
def test_begins(path: str, prefix: PathPrefix, expected: bool) -> None:
    assert begins(path, prefix) is expected


def test_prefixes_in_the_form_that_fits() -> None:
    assert matched_prefix(PathPrefix("/a%2e/../b/", True)) == PathPrefix("/b/", True)
    assert matched_prefix(PathPrefix("/a%20/.", whole=False)) == PathPrefix("/a /.", whole=False)
    assert matched_prefix(PathPrefix("")) == PathPrefix("")
