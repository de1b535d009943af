"""Inject (paper 3.3, A.1): where the word A* stands in a prompt and what it does to the attention (Eq. 7, Eq. 8)."""
