"""The HTTP face: untrusted requests in, jobs and their results out. No torch here."""
