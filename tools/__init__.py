"""Tools for maintaining the course, not part of its library: publishing, slides, benchmarks."""
