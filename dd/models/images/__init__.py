"""Networks for images, and the text that names one."""
