"""Sets of real images that methods are compared with."""
