"""The processes of a command: started, joined and ended."""
