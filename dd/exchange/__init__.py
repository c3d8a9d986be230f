"""Sets and buffers of others read, ours written for others."""
