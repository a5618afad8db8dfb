"""Is the data that a configuration names there and sound?"""
