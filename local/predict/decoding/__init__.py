"""How `predict.py` makes events of scores: what flags, configuration and tuned values say of it."""
