"""The work of each command, callable from Python: predict, train, evaluate, studies, exports, checks."""
