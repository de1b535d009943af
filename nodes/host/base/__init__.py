"""What every stage needs of the host: types, files, hashes, rows of a batch, attention patches, words in prompts."""
