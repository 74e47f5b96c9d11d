"""MariaDB: all SQL of wgsyncd, and everything that knows a column of mikyun_cloud."""
