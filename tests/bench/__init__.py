"""Measurements: each module prints one JSON object; nothing here asserts a time."""
