"""AudioToken (Yariv et al., Interspeech 2023): a sound as one row of the token table of Stable Diffusion 1.4's CLIP-L."""
