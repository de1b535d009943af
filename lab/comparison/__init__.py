"""A comparison of methods on the pocket world, looked at by its judge."""
