"""The system "%%name%%"."""
