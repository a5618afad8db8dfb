"""What a detector's frame scores come from: networks, and several of them averaged."""
