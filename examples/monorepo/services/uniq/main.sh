# The distinct lines of its input, sorted.
LC_ALL=C sort -u
