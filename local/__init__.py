"""The 2024 recipe: file names, classes, corpora and Lightning around `desed_task`."""
