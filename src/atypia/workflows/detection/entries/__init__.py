"""The detectors that ship; each module adds one."""
