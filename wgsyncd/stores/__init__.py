"""Where desired devices come from and recorded state goes to: one folder for each control plane, and the spool."""
