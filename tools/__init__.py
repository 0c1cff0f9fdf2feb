"""Around the course and no part of its library: publishing, slides, benchmark."""
