"""`wgsyncd doctor`: checks what has to be right around wgsyncd, one file for each subject."""
