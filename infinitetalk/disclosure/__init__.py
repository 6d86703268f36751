"""Saying that a video was generated: to machines in the file, and if wanted to people in the frame.

Law is not decided here; docs/responsible-use.md says what is asked of whom, and what is on.
"""
