"""From files on disk to batches: reading, formats, splits, caching and sampling."""
