enum ReportStyle {
  /// Texts reach a contrast of 4.5 with what they stand on, in both colour schemes.
  static let css = """
    :root {
      --page: #fdfdfb; --ink: #1c2226; --soft: #566067; --rule: #d9dddc; --panel: #f4f5f2; --accent: #1d5c96;
      --warn: #8a4b00; --warn-panel: #fdf3e3; --good: #1b6b45; --bad: #a3341f;
      --c0: #1d5c96; --c1: #c2570c; --c2: #147a5c; --c3: #9c3587; --c4: #7a6a00; --c5: #21838f; --c6: #6b7075;
      --c7: #3a2f8f;
    }
    @media screen and (prefers-color-scheme: dark) {
      :root {
        --page: #14181b; --ink: #e3e7e9; --soft: #a3adb3; --rule: #323a3f; --panel: #1c2226; --accent: #85bdea;
        --warn: #f2bd73; --warn-panel: #2b2317; --good: #7fd0a6; --bad: #f59a86;
        --c0: #74b5ec; --c1: #f29a5c; --c2: #55c79f; --c3: #e08fcd; --c4: #d5c14e; --c5: #6fd0dc; --c6: #b3babf;
        --c7: #a79cf2;
      }
    }
    * { box-sizing: border-box; }
    html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
    body {
      margin: 0 auto; padding: 3.5rem 1.25rem 4rem; max-width: 50rem; background: var(--page); color: var(--ink);
      font: 400 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "PingFang SC",
        "Hiragino Sans GB", "Microsoft YaHei", "Noto Sans CJK SC", "Source Han Sans SC", sans-serif;
      overflow-wrap: break-word;
    }
    h1, h2, h3 { line-height: 1.25; font-weight: 650; text-wrap: balance; }
    h1 { font-size: 1.9rem; letter-spacing: -0.012em; margin: 0; }
    h2 { font-size: 1.3rem; margin: 0 0 1rem; scroll-margin-top: 1rem; }
    h3 { font-size: 1rem; margin: 2rem 0 0.6rem; }
    p { margin: 0 0 1rem; white-space: pre-line; max-width: 42rem; }
    .subtitle { color: var(--soft); font-size: 1.06rem; margin: 0.6rem 0 0; }
    a { color: var(--accent); text-underline-offset: 0.18em; text-decoration-thickness: 1px; }
    :focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
    nav { margin: 1.8rem 0 0; padding: 0.9rem 0; border-block: 1px solid var(--rule); font-size: 0.92rem; }
    nav ol { margin: 0; padding: 0; list-style: none; display: flex; flex-wrap: wrap; gap: 0.3rem 1.4rem; }
    nav a { text-decoration: none; }
    nav a:hover { text-decoration: underline; }
    section { margin-top: 3.4rem; }
    .summary { margin-top: 2.4rem; }
    dl, dd, figure { margin: 0; }
    .key { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); margin: 0 0 1.8rem;
      border: 1px solid var(--rule); border-radius: 6px; overflow: hidden; }
    .key div { display: grid; grid-row: span 3; grid-template-rows: subgrid; padding: 0.85rem 1rem 0.9rem;
      margin: -1px 0 0 -1px; border: solid var(--rule); border-width: 1px 0 0 1px; }
    .key.three { grid-template-columns: repeat(auto-fit, minmax(13.5rem, 1fr)); }
    .key dt { color: var(--soft); font-size: 0.84rem; line-height: 1.35; }
    .key dd { font-size: 1.5rem; line-height: 1.3; margin-top: 0.25rem; font-variant-numeric: tabular-nums; }
    .key .detail { color: var(--soft); font-size: 0.84rem; line-height: 1.4; margin-top: 0.1rem; }
    .scroll, .picture { overflow-x: auto; margin: 0 0 1rem; }
    table { border-collapse: collapse; width: 100%; font-size: 0.9rem; line-height: 1.45;
      font-variant-numeric: tabular-nums lining-nums; }
    caption { text-align: start; color: var(--soft); padding: 0 0 0.5rem; font-size: 0.9rem; }
    .scroll + .scroll, p.small + .scroll { margin-top: 1.8rem; }
    th, td { padding: 0.42rem 0.9rem 0.42rem 0; text-align: start; vertical-align: top; border-bottom: 1px solid var(--rule); }
    th:last-child, td:last-child { padding-inline-end: 0; }
    th { font-weight: 400; }
    thead th { color: var(--soft); font-size: 0.84rem; vertical-align: bottom; border-bottom-color: var(--soft); }
    tbody th { min-width: 6rem; }
    tbody th, tbody td { overflow-wrap: break-word; }
    thead th { word-break: keep-all; }
    th.n, td.n { text-align: end; }
    td.n, td.s { white-space: nowrap; font-variant-numeric: tabular-nums; }
    .small, figcaption p { color: var(--soft); font-size: 0.88rem; margin: 0 0 0.6rem; }
    figure { margin: 2.4rem 0 2rem; }
    figure h3 { margin-top: 0; }
    svg { display: block; font-family: inherit; font-size: 12px; }
    .picture > svg { max-width: none; height: auto; }
    svg.narrow { display: none; }
    svg text { fill: var(--ink); }
    svg .l, svg .a { fill: var(--soft); }
    svg .h { font-weight: 650; }
    svg .v, svg .q { font-variant-numeric: tabular-nums; }
    svg .q { paint-order: stroke; stroke: var(--page); stroke-width: 3px; stroke-linejoin: round; }
    svg .v[fill="#000"] { fill: #000; }
    svg .v[fill="#fff"] { fill: #fff; }
    svg .g { stroke: var(--rule); stroke-width: 1; }
    svg .x { stroke: var(--soft); stroke-width: 1; }
    svg .r { stroke: var(--ink); stroke-width: 1.2; stroke-dasharray: 4 3; }
    svg .none { fill: none; stroke: var(--rule); stroke-dasharray: 2 3; }
    svg .b { fill: var(--c0); }
    svg .s { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
    svg .w { stroke-width: 1.5; }
    svg .m { stroke: var(--page); stroke-width: 1; }
    svg .c0 { --c: var(--c0); } svg .c1 { --c: var(--c1); } svg .c2 { --c: var(--c2); } svg .c3 { --c: var(--c3); }
    svg .c4 { --c: var(--c4); } svg .c5 { --c: var(--c5); } svg .c6 { --c: var(--c6); } svg .c7 { --c: var(--c7); }
    svg .s, svg .w { stroke: var(--c); }
    svg .m { fill: var(--c); }
    details { font-size: 0.92rem; }
    summary { cursor: pointer; color: var(--accent); width: fit-content; max-width: 100%; }
    details[open] > summary { margin-bottom: 0.7rem; }
    figure details { font-size: 0.88rem; margin-top: 0.4rem; }
    .item { border-bottom: 1px solid var(--rule); padding: 0.55rem 0; }
    .item summary { width: auto; color: var(--ink); }
    .item .title { overflow-wrap: anywhere; }
    .mark { display: inline-block; color: var(--soft); border: 1px solid currentColor; border-radius: 99px; padding: 0 0.6em;
      font-size: 0.8rem; line-height: 1.5; margin-inline-start: 0.6em; white-space: nowrap; }
    .mark.good { color: var(--good); }
    .mark.bad { color: var(--bad); }
    .item dt { color: var(--soft); font-size: 0.84rem; margin-top: 0.6rem; }
    .item dd { white-space: pre-wrap; overflow-wrap: anywhere; max-height: 24rem; overflow-y: auto; }
    .fields { font-size: 0.92rem; margin: 0 0 1rem; }
    .fields > div { display: grid; grid-template-columns: minmax(9rem, 14rem) minmax(0, 1fr); gap: 0 1.2rem; padding: 0.36rem 0;
      border-bottom: 1px solid var(--rule); }
    .fields dt { color: var(--soft); }
    .fields dd { white-space: pre-wrap; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
    .reproduction .fields dd { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace;
      font-size: 0.84rem; line-height: 1.7; }
    .code { background: var(--panel); border-radius: 6px; padding: 0.8rem 1rem; margin: 0 0 1rem; overflow-x: auto;
      font: 0.84rem/1.6 ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; }
    .callout { background: var(--panel); border-inline-start: 3px solid var(--soft); border-radius: 0 6px 6px 0;
      padding: 0.75rem 1rem; margin: 0 0 1rem; font-size: 0.94rem; }
    .callout p { margin: 0; }
    .callout.warning { background: var(--warn-panel); border-color: var(--warn); }
    .callout.warning strong { color: var(--warn); }
    footer { margin-top: 3.4rem; padding-top: 0.9rem; border-top: 1px solid var(--rule); color: var(--soft); font-size: 0.84rem; }
    footer p { margin: 0; }
    :lang(zh) p { line-height: 1.75; }
    @media screen and (min-width: 34rem) and (max-width: 49rem) {
      svg.wide { width: max(100%, 600px); }
    }
    @media screen and (max-width: 34rem) {
      body { padding: 2rem 1rem 3rem; }
      h1 { font-size: 1.5rem; }
      section { margin-top: 2.6rem; }
      .key, .key.three { grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); }
      .key dd { font-size: 1.25rem; }
      .fields > div { grid-template-columns: minmax(0, 1fr); }
      svg.wide { display: none; }
      svg.narrow { display: block; }
    }
    @page { margin: 18mm 17mm; }
    @media print {
      html { font-size: 10.5pt; }
      body { padding: 0; max-width: none; background: none; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
      nav { display: none; }
      section { margin-top: 2rem; }
      h1, h2, h3, caption, summary { break-after: avoid; }
      p { orphans: 3; widows: 3; max-width: none; }
      .scroll, .picture { overflow: visible; }
      .picture > svg { max-width: 100%; max-height: 235mm; }
      .picture, .key, .callout, tr, .fields > div { break-inside: avoid; }
      thead { display: table-header-group; }
      table { font-size: 8.5pt; }
      th, td { overflow-wrap: anywhere; padding-inline-end: 0.7rem; }
      thead th:not(.long) { overflow-wrap: break-word; }
      tbody th, tbody td:not(.n) { min-width: 0; }
      .item dd { max-height: none; overflow: visible; }
      .code { white-space: pre-wrap; overflow-wrap: anywhere; overflow: visible; }
      figure details table { font-size: 7.5pt; line-height: 1.25; }
      figure details th, figure details td { padding-block: 0.12rem; }
      details::details-content { content-visibility: visible; display: block; height: auto; }
      summary { list-style: none; color: var(--ink); }
      summary::-webkit-details-marker { display: none; }
    }

    """
}
