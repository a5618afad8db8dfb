"""Make the challenge's submission package: `make_submission.py`."""
