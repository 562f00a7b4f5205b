using System.Buffers.Binary;
using System.Numerics;

namespace FabricSharp.Checkpointing.PyTorch;

/// <summary>
/// Reads a pickle as far as data go. A pickle is a program for a stack machine that may call anything; this machine has no way to call
/// anything: a name that it meets is looked up in <see cref="PickleGlobals"/>, and what is not there is an error.
/// </summary>
/// <param name="source">Where the pickle is.</param>
/// <param name="persistent">What stands for a reference to something outside of the pickle.</param>
internal sealed class PickleMachine(PickleSource source, Func<object?, object> persistent)
{
    /// <summary>A checkpoint of 50 000 tensors with Adam's state has some 5 million.</summary>
    private const int MaxInstructions = 16_000_000;

    private const int MaxStack = 4_000_000;
    private const int MaxNameBytes = 512;

    /// <summary>Of a Python integer, which has no limit of its own.</summary>
    private const int MaxIntegerBytes = 1024;

    /// <summary>Values that calls may copy out of collections: a few bytes can name the same collection again and again.</summary>
    private const long MaxCopied = 16_000_000;

    private const int HighestProtocol = 5;

    private readonly List<object?> _stack = [];
    private readonly List<int> _marks = [];
    private readonly List<object?> _memo = [];
    private long _copied;

    /// <returns>null, bool, long, BigInteger, double, string, byte[], Complex, or one of the types of <c>PickleValues.cs</c>.</returns>
    /// <exception cref="FormatException">The pickle is broken, asks for something unknown, or is larger than the limits.</exception>
    public object? Run()
    {
        for (var count = 0; ; count++)
        {
            if (count == MaxInstructions)
                throw new FormatException($"the pickle has more than {MaxInstructions} instructions");
            var instruction = source.ReadByte();
            if (instruction == '.')
                return _marks.Count == 0 ? Pop() : throw new FormatException("the pickle ends inside a collection");
            Execute(instruction);
            if (_stack.Count > MaxStack || _marks.Count > MaxStack)
                throw new FormatException($"the pickle keeps more than {MaxStack} values on its stack");
        }
    }

    private void Execute(byte instruction)
    {
        switch ((char)instruction)
        {
            case '\u0080': RequireProtocol(source.ReadByte()); break;
            case '\u0095': source.ReadNumber(8); break; // the length of a frame: for buffering alone
            case 'N': Push(null); break;
            case '\u0088': Push(true); break;
            case '\u0089': Push(false); break;
            case 'K': Push((long)source.ReadByte()); break;
            case 'M': Push((long)source.ReadNumber(2)); break;
            case 'J': Push((long)(int)source.ReadNumber(4)); break;
            case '\u008a': Push(Integer(source.ReadByte())); break;
            case '\u008b': Push(Integer(source.ReadNumber(4))); break;
            case 'G': Push(BinaryPrimitives.ReadDoubleBigEndian(source.ReadBytes(8))); break;
            case 'U' or '\u008c': Push(source.ReadText(source.ReadByte())); break;
            case 'T' or 'X': Push(source.ReadText(source.ReadNumber(4))); break;
            case '\u008d': Push(source.ReadText(source.ReadNumber(8))); break;
            case 'C': Push(source.ReadBytes(source.ReadByte())); break;
            case 'B': Push(source.ReadBytes(source.ReadNumber(4))); break;
            case '\u008e' or '\u0096': Push(source.ReadBytes(source.ReadNumber(8))); break;
            case 'h': Push(Recall(source.ReadByte())); break;
            case 'j': Push(Recall(source.ReadNumber(4))); break;
            case 'q': Remember(source.ReadByte()); break;
            case 'r': Remember(source.ReadNumber(4)); break;
            case '\u0094': Remember((ulong)_memo.Count); break;
            case '(': _marks.Add(_stack.Count); break;
            case '0': Pop(); break;
            case '1': PopToMark(); break;
            case '2': Push(Peek()); break;
            default: ExecuteOnCollections((char)instruction); break;
        }
    }

    private void ExecuteOnCollections(char instruction)
    {
        switch (instruction)
        {
            case ')': Push(new PickleTuple([])); break;
            case '\u0085' or '\u0086' or '\u0087': Push(new PickleTuple(Take(instruction - '\u0084'))); break;
            case 't': Push(new PickleTuple(PopToMark())); break;
            case ']': Push(new PickleList()); break;
            case 'l': PushWith(new PickleList(), PopToMark()); break;
            case 'a': Append([Pop()]); break;
            case 'e': Append(PopToMark()); break;
            case '}': Push(new PickleDict()); break;
            case 'd': PushWith(new PickleDict(), PopToMark()); break;
            case 's': SetItems(Take(2)); break;
            case 'u': SetItems(PopToMark()); break;
            case '\u008f': Push(new PickleSet()); break;
            case '\u0090': AddItems(PopToMark()); break;
            case '\u0091': PushWith(new PickleSet(), PopToMark()); break;
            case 'c': Push(PickleGlobals.Find(source.ReadLine(MaxNameBytes), source.ReadLine(MaxNameBytes))); break;
            case '\u0093': PushNamedOnStack(); break;
            case 'R' or '\u0081': Call(); break;
            case 'b': Build(); break;
            case 'Q': Push(persistent(Pop())); break;
            default: throw new FormatException(PickleGlobals.RefusalOf(instruction));
        }
    }

    private static void RequireProtocol(byte protocol)
    {
        if (protocol is < 2 or > HighestProtocol)
            throw new FormatException($"the pickle has protocol {protocol}; 2 to {HighestProtocol} are known");
    }

    private object Integer(ulong length)
    {
        if (length > MaxIntegerBytes)
            throw new FormatException($"an integer has {length} bytes, more than {MaxIntegerBytes}");
        var number = new BigInteger(source.ReadBytes(length));
        return number >= long.MinValue && number <= long.MaxValue ? (long)number : (object)number;
    }

    private void Push(object? value) => _stack.Add(value);

    private object? Peek()
    {
        if (_stack.Count <= Floor)
            throw new FormatException("the pickle takes a value from an empty stack");
        return _stack[^1];
    }

    private int Floor => _marks.Count == 0 ? 0 : _marks[^1];

    private object? Pop()
    {
        var value = Peek();
        _stack.RemoveAt(_stack.Count - 1);
        return value;
    }

    private object?[] Take(int count)
    {
        if (_stack.Count - count < Floor)
            throw new FormatException("the pickle takes a value from an empty stack");
        var taken = _stack[^count..].ToArray();
        _stack.RemoveRange(_stack.Count - count, count);
        return taken;
    }

    private object?[] PopToMark()
    {
        if (_marks.Count == 0)
            throw new FormatException("the pickle ends a collection that it never began");
        var taken = Take(_stack.Count - _marks[^1]);
        _marks.RemoveAt(_marks.Count - 1);
        return taken;
    }

    private object? Recall(ulong index) => index < (ulong)_memo.Count ? _memo[(int)index] : throw new FormatException($"the pickle asks for value {index} of the {_memo.Count} that it noted");

    /// <summary>Picklers number what they note from 0 or from 1 on, without gaps.</summary>
    private void Remember(ulong index)
    {
        if (index == 1 && _memo.Count == 0)
            _memo.Add(null);
        if (index > (ulong)_memo.Count)
            throw new FormatException($"the pickle notes a value as number {index} when it has {_memo.Count}");
        if (index == (ulong)_memo.Count)
            _memo.Add(Peek());
        else
            _memo[(int)index] = Peek();
    }

    private void PushWith(object collection, object?[] items)
    {
        Push(collection);
        switch (collection)
        {
            case PickleList: Append(items); break;
            case PickleDict: SetItems(items); break;
            default: AddItems(items); break;
        }
    }

    private void Append(object?[] items) => (Peek() as PickleList ?? throw WrongTarget("appends to", Peek())).Items.AddRange(items);

    private void AddItems(object?[] items) => (Peek() as PickleSet ?? throw WrongTarget("adds to", Peek())).Items.AddRange(items);

    private void SetItems(object?[] items)
    {
        var dict = Peek() as PickleDict ?? throw WrongTarget("sets items of", Peek());
        if (items.Length % 2 != 0)
            throw new FormatException("the pickle gives a key without a value");
        for (var i = 0; i < items.Length; i += 2)
            dict.Items.Add((items[i], items[i + 1]));
    }

    private void PushNamedOnStack()
    {
        var names = Take(2);
        if (names is not [string { Length: <= MaxNameBytes } module, string { Length: <= MaxNameBytes } name])
            throw new FormatException("the pickle names a class by something that is no text");
        Push(PickleGlobals.Find(module, name));
    }

    private void Call()
    {
        var arguments = Pop() as PickleTuple ?? throw new FormatException("the pickle calls something without a tuple of arguments");
        var function = Pop() as PickleGlobal ?? throw new FormatException("the pickle calls something that is no function");
        _copied += arguments.Items.Length + arguments.Items.Take(4).Sum(SizeOf);
        if (_copied > MaxCopied)
            throw new FormatException($"the pickle copies more than {MaxCopied} values");
        Push(function.Call is { } call ? call(arguments.Items) : throw new FormatException($"the pickle calls {function.Name}, which is not called in checkpoints. Nothing was executed"));
    }

    private static long SizeOf(object? value) => value switch
    {
        string text => text.Length / 8,
        byte[] bytes => bytes.Length / 8,
        PickleTuple tuple => tuple.Items.Length,
        PickleList list => list.Items.Count,
        PickleSet set => set.Items.Count,
        PickleDict dict => dict.Items.Count,
        _ => 0,
    };

    /// <summary>Attributes of a dictionary (a state dict's <c>_metadata</c>) are left out; other objects have none here.</summary>
    private void Build()
    {
        Pop();
        if (Peek() is not PickleDict)
            throw WrongTarget("sets attributes of", Peek());
    }

    private static FormatException WrongTarget(string what, object? target) => new($"the pickle {what} a {target?.GetType().Name ?? "None"}");
}
