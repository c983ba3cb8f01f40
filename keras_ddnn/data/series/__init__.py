"""Series of numbers over time: read, generated, and cut into windows."""
