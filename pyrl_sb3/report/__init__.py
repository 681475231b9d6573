"""What people look at: learning curves, films, the demonstration."""
