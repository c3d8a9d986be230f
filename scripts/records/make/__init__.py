"""Lists of jobs, and the measuring of each; a job that has its record is skipped."""
