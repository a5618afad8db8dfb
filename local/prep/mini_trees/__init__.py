"""Mini trees: small synthetic corpora in the layouts of those that supplied tasks describe."""
