"""Untrusted pictures, videos and sound in; numpy arrays and our own files out. No torch here."""
