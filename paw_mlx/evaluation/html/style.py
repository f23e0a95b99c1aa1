"""How the page of a report looks, by day and by night."""

STYLE = """
:root{color-scheme:light dark;--ink:#1b2430;--soft:#566273;--line:#dde3ea;--page:#f4f6f8;
--card:#fff;--good:#176f42;--bad:#b3261e;--accent:#1f5fa8;--hit:31 95 168;--miss:201 82 24}
@media (prefers-color-scheme:dark){:root{--ink:#e7ecf2;--soft:#a3afbd;--line:#303a46;
--page:#11151a;--card:#1a2028;--good:#63d197;--bad:#ff8f85;--accent:#82b7f2;--hit:74 140 219;
--miss:222 104 48}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 20px 60px}
header{display:flex;flex-wrap:wrap;gap:4px 16px;align-items:baseline}
h1{font-size:24px;margin:0;overflow-wrap:anywhere}
h2{font-size:16px;margin:0 0 12px}
p{margin:0 0 8px}
.card>p:last-child{margin-bottom:0}
.soft{color:var(--soft)}
.good{color:var(--good)}.bad{color:var(--bad)}
.badge{font-weight:600;border:1.5px solid;border-radius:99px;padding:1px 12px}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:18px 20px;
margin-top:16px;min-width:0}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,430px),1fr));gap:0 16px;
align-items:start}
.head{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr));gap:12px 40px;
align-items:center}
.big{font-size:52px;font-weight:650;line-height:1.1;letter-spacing:-.02em}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(112px,1fr));gap:12px;margin:0}
.head+.facts{margin-top:14px}
.facts dt{color:var(--soft);font-size:13px}
.facts dd{margin:0;font-size:19px;font-weight:600;font-variant-numeric:tabular-nums}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:5px 10px;text-align:right;border-bottom:1px solid var(--line)}
th{font-weight:600}
thead th{color:var(--soft);font-size:13px;vertical-align:bottom}
th:first-child,tbody th,td.text{text-align:left}
th.name{max-width:18ch;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.wide+.soft{margin-top:10px}
.matrix td{min-width:52px;border:2px solid var(--card);border-radius:6px;
background:rgb(var(--miss)/var(--share))}
.matrix td.right{background:rgb(var(--hit)/var(--share));font-weight:600}
.matrix td.none{color:var(--soft);background:none}
td.bar{min-width:74px;border:2px solid var(--card);border-radius:6px;
background:linear-gradient(rgb(var(--hit)/.3),rgb(var(--hit)/.3)) 0/var(--share) 100% no-repeat
rgb(var(--hit)/.07)}
svg{display:block;width:100%;height:auto;max-width:460px}
svg text{fill:var(--soft);font-size:12px}
.axis{stroke:var(--line);fill:none}.ideal{stroke:var(--soft);stroke-dasharray:3 4;fill:none}
.line{stroke:var(--accent);stroke-width:2;fill:none}.dot{fill:var(--accent)}
.span{stroke:var(--accent);stroke-width:10;stroke-linecap:round;opacity:.35}
details{border-top:1px solid var(--line);padding:8px 0}
details details{border:0;padding:4px 0}
summary{cursor:pointer;overflow-wrap:anywhere}
summary:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
.count{color:var(--soft);font-variant-numeric:tabular-nums;margin-left:6px}
.case{margin:10px 0 0 16px;padding-left:14px;border-left:3px solid var(--line);display:grid;
grid-template-columns:max-content 1fr;gap:0 14px}
.case dt{color:var(--soft)}
.case dd{margin:0;min-width:0}
pre{margin:0;font:13px/1.55 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;
white-space:pre-wrap;overflow-wrap:anywhere}
@media print{body{background:none}.card{break-inside:avoid}}
"""
