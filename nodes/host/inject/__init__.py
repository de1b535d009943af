"""Inject in the host: edits with the source's attention (Eq. 7), loudness (Eq. 8), watching and batches."""
