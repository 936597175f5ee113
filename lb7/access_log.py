"""The access log: how much is told. A request's record is made in proxy_counts.pxi."""

MOST_FAILURES = 100
"""Failures that are logged in a second, whatever share of requests is; the others are counted."""

MOST_PATH = 1024
"""Characters of a path that are logged."""
MOST_NAME = 256
"""The same of a method, a host and a request id."""
