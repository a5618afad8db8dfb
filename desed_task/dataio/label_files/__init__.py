"""Label files of any form, labels of several annotators, and labels that training adds."""
