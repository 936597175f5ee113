"""Sources: each follows one place that knows what runs where and publishes what it says."""
