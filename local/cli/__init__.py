"""What the command line scripts share: arguments, devices, exit status, progress, versions."""
