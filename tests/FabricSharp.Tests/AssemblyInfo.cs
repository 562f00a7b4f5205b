// Ranks are threads that spin and libtorch's default generator is one per process: tests run one after the other.
[assembly: Xunit.v3.Parallelization(Mode = Xunit.Sdk.ParallelMode.None)]
