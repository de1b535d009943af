"""Training sets: gathered, decoded, written as shards, and read again."""
