"""What the benchmarks share: turns, memory, and the history that `make bench` keeps."""
