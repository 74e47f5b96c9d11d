"""Shaping: from contracts and devices to classes and filters of tc, and to the plan that makes them."""
