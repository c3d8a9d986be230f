"""A run from its arguments to its folder: what is asked, what is done, what is kept."""
