"""Files of weights: read them safely, recognise their layout, load their tensors."""
