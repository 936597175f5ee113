"""The simulated cluster: a Mesos master and a Marathon on loopback, for the demo, tests and benchmarks."""
