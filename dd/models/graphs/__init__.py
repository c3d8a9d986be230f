"""Networks for graphs, and the text that names one."""
