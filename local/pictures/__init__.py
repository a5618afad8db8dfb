"""What all pictures share: the meaning of colours, ticks of logarithmic axes."""
