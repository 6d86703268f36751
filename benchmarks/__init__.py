"""Measurements. Each module is one command; it prints a table and appends it to RESULTS.md."""
