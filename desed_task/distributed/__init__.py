"""What the processes of one training or command tell each other."""
