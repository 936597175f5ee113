"""The directory of what runs where, and the DNS that tells it."""
