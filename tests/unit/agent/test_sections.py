"""The list of sections is complete and consistent."""

from __future__ import annotations

import msgspec

from agent.sections import PLANNED, SECRETS, SECTIONS, Config


def test_every_section_is_a_field_of_the_configuration() -> None:
    fields = {field.name for field in msgspec.structs.fields(Config)}
    assert set(SECTIONS) < fields
    assert fields - set(SECTIONS) == {"state_dir", "drain_timeout"}


def test_planned_sections_are_not_there() -> None:
    assert not set(PLANNED) & set(SECTIONS)


def test_every_key_has_a_description() -> None:
    bare = [
        f"{name}.{field.name}"
        for name, kind in SECTIONS.items()
        for field in msgspec.structs.fields(kind)
        if not any(meta.description for meta in getattr(field.type, "__metadata__", ()))
    ]
    assert not bare


def test_secrets_are_keys() -> None:
    keys = {key for kind in SECTIONS.values() for key in kind.__struct_fields__}
    assert keys >= SECRETS
