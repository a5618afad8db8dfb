"""The challenge's package: `make_submission.py`."""
