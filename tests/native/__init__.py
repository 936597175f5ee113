"""Harnesses in C for mesos_dns/native, and what compiles and runs them (tests/system/test_native_*.py)."""
