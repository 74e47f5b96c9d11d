"""The demo of wgsyncd: a testbed of its own, and the scenarios that run on it."""
