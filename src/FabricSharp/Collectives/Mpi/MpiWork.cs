namespace FabricSharp.Collectives.Mpi;

/// <summary>The user's view of a request.</summary>
internal sealed class MpiWork(MpiChannel channel, MpiRequest request) : Work
{
    public override bool IsCompleted
    {
        get
        {
            if (!request.IsCompleted)
                channel.Runtime.Advance();
            return request.IsCompleted;
        }
    }

    public override Exception? Exception => request.IsCompleted ? request.Failure : null;

    public override void Wait(TimeSpan? timeout = null) => channel.Wait(request, timeout ?? channel.Timeout);
}
