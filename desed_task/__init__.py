"""Sound event detection in tensors, seconds and labels: what `local` is built from."""
