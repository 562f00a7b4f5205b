namespace FabricSharp.Cli.Report;

/// <summary>Which modules took part in which step: a row for each module that some rank left out at some time, a column for each recorded step.</summary>
internal static class UnusedGrid
{
    private const int MostRows = 48;

    /// <summary>How much of a module was used in a step.</summary>
    private enum Use
    {
        ByAll,
        BySome,
        ByNone,
        Unknown,
    }

    public static Html Of(ModelTimeline model)
    {
        var modules = Modules(model);
        if (modules.Count == 0)
            return Html.Of($"<p>Every parameter was used on every rank in each of {Text.Count(model.Model.Totals.Steps)} steps.</p>");
        return Html.Of($"""
            <p class="legend"><span class="used">used on all ranks</span><span class="some">on some ranks only</span><span class="none">on no rank</span></p>
            <div class="usage">{modules.Take(MostRows).Select(module => Row(model, module))}
            <div class="row foot"><span></span><span class="steps"><span>step {Text.Count(model.Steps[0].Number)}</span><span>{Text.Count(model.Steps[^1].Number)}</span></span><span></span></div></div>
            {(modules.Count > MostRows ? Html.Of($"<p class=\"note\">And {modules.Count - MostRows} more modules.</p>") : Html.Empty)}
            <p class="note">At the right: the share of all {Text.Count(model.Model.Totals.Steps)} steps in which no rank used some parameter of the module.</p>
            """);
    }

    private static List<(string Name, int[] Parameters)> Modules(ModelTimeline model) =>
        [.. Enumerable.Range(0, model.Model.Parameters.Count).Where(i => model.Model.UnusedSomewhere[i] > 0)
            .GroupBy(i => ModuleOf(model.Model.Parameters[i].Name)).Select(group => (group.Key, group.ToArray()))];

    private static string ModuleOf(string parameter) => parameter.LastIndexOf('.') is var dot and > 0 ? parameter[..dot] : "(the model itself)";

    private static Html Row(ModelTimeline model, (string Name, int[] Parameters) module)
    {
        var uses = model.Steps.Select(step => UseOf(step.Ranks[0], module.Parameters)).ToList();
        var nowhere = module.Parameters.Max(i => model.Model.UnusedEverywhere[i]);
        var total = Math.Max(1, model.Model.Totals.Steps);
        var somewhere = module.Parameters.Max(i => model.Model.UnusedSomewhere[i]);
        return Html.Of($"""
            <div class="row"><span class="name" title="{module.Name}">{module.Name}</span><svg viewBox="0 0 {uses.Count} 1" preserveAspectRatio="none" role="img" aria-label="{module.Name}: not used on all ranks in {Text.Percent(somewhere / (double)total)} of the steps">{Runs(uses)}</svg><span class="share">{Text.Percent(nowhere / (double)total)}</span></div>
            """);
    }

    private static Use UseOf(RankStep step, int[] parameters)
    {
        var uses = parameters.Select(step.UseOf).OfType<(bool Here, bool ByAll, bool ByAny)>().ToList();
        return uses.Count == 0 ? Use.Unknown : uses.TrueForAll(use => use.ByAll) ? Use.ByAll : uses.Exists(use => use.ByAny) ? Use.BySome : Use.ByNone;
    }

    /// <summary>One rectangle for each run of equal cells.</summary>
    private static IEnumerable<Html> Runs(List<Use> uses)
    {
        for (int begin = 0, end; begin < uses.Count; begin = end)
        {
            for (end = begin + 1; end < uses.Count && uses[end] == uses[begin]; end++)
                continue;
            if (uses[begin] != Use.Unknown)
                yield return Html.Of($"<rect class=\"{ClassOf(uses[begin])}\" x=\"{begin}\" y=\"0\" width=\"{end - begin}\" height=\"1\"/>");
        }
    }

    private static string ClassOf(Use use) => use switch { Use.ByAll => "used", Use.BySome => "some", _ => "none" };
}
