"""What each part must do alone."""
