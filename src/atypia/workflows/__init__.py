"""What a command does, callable from Python: predict, train, evaluate, studies, exports, checks."""
