namespace FabricSharp.Examples.ByFeature;

/// <summary>
/// A cart on a rail with a pole on a hinge: push it left or right so that the pole stands. An episode ends when the pole leans over 12° or the
/// cart is 2.4 m away, at the latest after <see cref="Longest"/> steps of 20 ms.
/// </summary>
internal sealed class CartPole(int seed)
{
    public const int Longest = 200;

    private const float Gravity = 9.8f, CartMass = 1, PoleMass = 0.1f, HalfLength = 0.5f, Force = 10, Seconds = 0.02f;
    private readonly Random _random = new(seed);
    private float _position, _speed, _angle, _spin;
    private int _steps;

    /// <summary>Position (m), speed, angle (rad), angular speed.</summary>
    public float[] State => [_position, _speed, _angle, _spin];

    public void Reset()
    {
        (_position, _speed, _angle, _spin) = (Small(), Small(), Small(), Small());
        _steps = 0;
        float Small() => _random.NextSingle() * 0.1f - 0.05f;
    }

    /// <returns>Whether the episode goes on.</returns>
    public bool Push(bool right)
    {
        var (sin, cos) = MathF.SinCos(_angle);
        var pull = ((right ? Force : -Force) + PoleMass * HalfLength * _spin * _spin * sin) / (CartMass + PoleMass);
        var angular = (Gravity * sin - cos * pull) / (HalfLength * (4f / 3 - PoleMass * cos * cos / (CartMass + PoleMass)));
        var linear = pull - PoleMass * HalfLength * angular * cos / (CartMass + PoleMass);
        _position += Seconds * _speed;
        _speed += Seconds * linear;
        _angle += Seconds * _spin;
        _spin += Seconds * angular;
        return ++_steps < Longest && MathF.Abs(_position) < 2.4f && MathF.Abs(_angle) < 12 * MathF.PI / 180;
    }
}
