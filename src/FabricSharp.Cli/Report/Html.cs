using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Unicode;

namespace FabricSharp.Cli.Report;

/// <summary>Markup. What is put into it is escaped, unless it is markup itself: <c>Html.Of($"…")</c>.</summary>
internal readonly record struct Html(string Markup)
{
    public static Html Empty { get; } = new("");

    public static Html Of(ref Handler handler) => new(handler.ToString());

    public static Html Join(IEnumerable<Html> parts) => new(string.Concat(parts.Select(part => part.Markup)));

    [InterpolatedStringHandler]
    public ref struct Handler(int literalLength, int formattedCount)
    {
        private static readonly HtmlEncoder Encoder = HtmlEncoder.Create(UnicodeRanges.All);

        private readonly StringBuilder _markup = new(literalLength + 16 * formattedCount);

        public void AppendLiteral(string markup) => _markup.Append(markup);

        public void AppendFormatted(Html html) => _markup.Append(html.Markup);

        public void AppendFormatted(IEnumerable<Html> parts)
        {
            foreach (var part in parts)
                _markup.Append(part.Markup);
        }

        /// <summary>Control characters, which no page may hold, are shown as question marks.</summary>
        public void AppendFormatted(string? text) => _markup.Append(Encoder.Encode(new string([.. (text ?? "").Select(c => char.IsControl(c) ? '?' : c)])));

        public void AppendFormatted(long number) => _markup.Append(number.ToString(CultureInfo.InvariantCulture));

        /// <summary>A coordinate.</summary>
        public void AppendFormatted(double number) => _markup.Append(number.ToString("0.###", CultureInfo.InvariantCulture));

        public override string ToString() => _markup.ToString();
    }
}
