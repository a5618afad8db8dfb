"""Scores in, numbers out: one module a criterion, pure functions."""

import warnings

# dcase_util, below sed_scores_eval, announces at import what our pin of setuptools provides for.
warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)
