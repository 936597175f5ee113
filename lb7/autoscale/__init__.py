"""How many instances an app is to have: pure decisions from what was measured, by its policy, with their reasons."""
