"""The parts of `pack`: reading, grouping, coding, the threads between them, and what is reported."""
