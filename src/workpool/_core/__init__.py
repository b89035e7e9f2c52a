"""What decides and never acts: no thread, no event loop, no clock, no I/O. What it needs of time it is told."""
