"""What people read of a run: pages, reports and the commands that make it again."""
