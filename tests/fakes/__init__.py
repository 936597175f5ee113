"""Fakes of what can't run here; they replay recorded bytes or follow recorded shapes."""
