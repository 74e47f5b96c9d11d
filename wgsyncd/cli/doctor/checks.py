"""`wgsyncd doctor`: looks at everything that has to be right around wgsyncd, and says what mends what is not."""
