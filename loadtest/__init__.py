"""Load on a running service, by Locust: `python -m loadtest`, or locustfile.py by itself."""
