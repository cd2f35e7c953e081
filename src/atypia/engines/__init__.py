"""Carrying tasks out, whatever they are: in this process, in processes of this machine, on a Ray cluster."""
