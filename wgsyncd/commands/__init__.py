"""The admin's larger commands, one module each: arguments, gathering, printing."""
