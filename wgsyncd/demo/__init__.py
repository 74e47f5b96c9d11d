"""`wgsyncd demo`: the real daemon on a database, interfaces and customers of its own. See :mod:`wgsyncd.demo.run`."""
