"""How fast the proxy is, next to other servers, in one run: `python -m benchmarks`."""
