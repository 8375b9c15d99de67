"""The adapters against real servers, and against small servers that misbehave on purpose."""
