"""Adapt (paper 3.2): the audio token v* = s f_a + f_Adapter, its objective (Eq. 6), its trainer, its file."""
