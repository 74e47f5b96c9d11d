"""The control plane mikyun_cloud on MariaDB: all its SQL and everything that knows its columns."""
