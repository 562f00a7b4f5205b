using System.Text.Json;
using System.Text.Json.Nodes;
using FabricSharp.Tests.Report;
using FabricSharp.Tracing;

namespace FabricSharp.Tests.Tracing;

/// <summary>A trace is data from outside.</summary>
public sealed class TraceReaderTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Read_WhatWasWritten_IsTheSame()
    {
        var file = ConstructedRun.Make().Ranks[1];
        var text = JsonSerializer.Serialize(file, TraceReader.Json);
        File.WriteAllText(_folder["x"], text);
        Assert.Equal(text, JsonSerializer.Serialize(TraceReader.Read(_folder["x"]), TraceReader.Json));
    }

    [Theory]
    [InlineData("")]
    [InlineData("null")]
    [InlineData("{")]
    [InlineData("[]")]
    [InlineData("{}")]
    [InlineData("\u007fELF")]
    public void Read_NoTrace_NamesFileAndRemedy(string content)
    {
        File.WriteAllText(_folder["x"], content);
        var e = Assert.Throws<InvalidDataException>(() => TraceReader.Read(_folder["x"]));
        Assert.Contains(_folder["x"], e.Message);
        Assert.Contains("FABRIC_TRACE", e.Message);
    }

    [Theory]
    [InlineData("format", "\"other\"", "format")]
    [InlineData("version", "2", "version is 2")]
    [InlineData("rank", "2", "rank 2 of 2")]
    [InlineData("worldSize", "-1", "of -1")]
    [InlineData("clock", "{\"offsetNs\":-9223372036854775808,\"uncertaintyNs\":0}", "clock")]
    [InlineData("clock", "null", "clock")]
    [InlineData("models", "[null]", "model is null")]
    [InlineData("models/0/parameters", "[]", "do not fit")]
    [InlineData("models/0/parameters/0", "null", "parameter")]
    [InlineData("models/0/parameters/0/bytes", "-5", "size")]
    [InlineData("models/0/unusedHere/0", "99999", "do not fit")]
    [InlineData("models/0/layouts/0/pieces/0/parameters/0", "12345", "layout 0")]
    [InlineData("models/0/layouts/0/pieces/0/bucket", "-1", "layout 0")]
    [InlineData("models/0/steps/0/layout", "9", "layout 9")]
    [InlineData("models/0/steps/0/number", "0", "not in order")]
    [InlineData("models/0/steps/1", "null", "not in order")]
    [InlineData("models/0/steps/0/times", "[1,2]", "2 times")]
    [InlineData("models/0/steps/0/times/0", "9223372036854775807", "out of range")]
    [InlineData("models/0/steps/0/times/9", "1", "not in order")]
    [InlineData("models/0/steps/0/pieces", "[1]", "1 numbers")]
    [InlineData("models/0/steps/0/pieces/0", "-2", "out of range")]
    [InlineData("models/0/steps/0/usedHere", "\"AAAA\"", "bits")]
    [InlineData("models/0/totals/forwardNs", "-1", "total")]
    public void Read_ChangedValue_SaysWhatIsWrong(string path, string value, string problem)
    {
        var root = JsonSerializer.SerializeToNode(ConstructedRun.Make().Ranks[0], TraceReader.Json)!;
        var parts = path.Split('/');
        var parent = parts[..^1].Aggregate(root, (node, part) => node is JsonArray array ? array[int.Parse(part, null)]! : node[part]!);
        if (parent is JsonArray list)
            list[int.Parse(parts[^1], null)] = JsonNode.Parse(value);
        else
            parent[parts[^1]] = JsonNode.Parse(value);
        File.WriteAllText(_folder["x"], root.ToJsonString());
        Assert.Contains(problem, Assert.Throws<InvalidDataException>(() => TraceReader.Read(_folder["x"])).Message);
    }
}
