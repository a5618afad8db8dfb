"""Shared code of the command line scripts: arguments, devices, exit status, progress, versions."""
