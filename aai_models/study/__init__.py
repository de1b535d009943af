"""Fig. 5 and section 4.4: methods side by side, their figures, and the answers of people."""
