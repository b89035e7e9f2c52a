"""Who runs an item."""
