"""Many runs with one question: sweeps, the collapse test, benchmarks, cost, plain against together."""
