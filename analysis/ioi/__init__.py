"""The indirect-object task: which heads move names, suppress them, or take over when it runs."""
