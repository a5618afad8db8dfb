"""Metrics as pure functions of scores, one module per criterion."""

import warnings

# dcase_util, imported by sed_scores_eval, warns of what our pin of setuptools takes care of.
warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)
