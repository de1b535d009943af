"""What people who work on the pack use: hosts, servers, the demo, benchmarks. Never imported by the pack itself."""
