/* Charts, as SVG that stands in the page; its lines and colors are the page's. */

import { percent, s } from "./dom.js";

const LEFT = 52, TOP = 12, WIDTH = 380, HEIGHT = 220; // prettier-ignore
const SCALES = [0.04, 0.08, 0.12, 0.2, 0.4, 0.6, 0.8, 1]; // their quarters are whole percents

const x = (share) => LEFT + WIDTH * share;
const y = (share) => TOP + HEIGHT * (1 - share);

/** A share and its interval on a line from 0 to 100 %. */
export function interval(share, [low, high]) {
  const at = (value) => 22 + 376 * value;
  return drawing(
    `accuracy ${percent(share)}, with 95 % confidence from ${percent(low)} to ${percent(high)}`,
    420,
    44,
    s("path", { class: "axis", d: `M${at(0)} 14H${at(1)}` }),
    s("path", { class: "span", d: `M${at(low)} 14H${at(high)}` }),
    s("circle", { class: "dot", cx: at(share), cy: 14, r: 5.5 }),
    [0, 0.25, 0.5, 0.75, 1].map((tick) =>
      s("text", { x: at(tick), y: 40, "text-anchor": "middle" }, `${100 * tick} %`),
    ),
  );
}

/** The share of decided calls that is wrong against the share decided; a dot is where it is now. */
export function riskCoverage(curve, now) {
  const most = Math.max(...curve.map((point) => point.error));
  const top = SCALES.find((scale) => scale >= most);
  let path = "", before = curve[0]; // prettier-ignore
  for (const point of curve) {
    path += `${path ? "L" : "M"}${x(before.coverage)} ${y(point.error / top)}H${x(point.coverage)}`;
    before = point;
  }
  const parts = [0, 0.25, 0.5, 0.75, 1];
  return drawing(
    `risk and coverage: ${percent(before.error)} of calls are wrong where all are decided`,
    LEFT + WIDTH + 22,
    TOP + HEIGHT + 46,
    parts.map((part) => [
      s("path", { class: "axis", d: `M${LEFT} ${y(part)}H${LEFT + WIDTH}` }),
      s(
        "text",
        { x: LEFT - 8, y: y(part) + 4, "text-anchor": "end" },
        `${Math.round(100 * part * top)} %`,
      ),
      s("text", { x: x(part), y: TOP + HEIGHT + 18, "text-anchor": "middle" }, `${100 * part} %`),
    ]),
    s("text", { x: x(0.5), y: TOP + HEIGHT + 40, "text-anchor": "middle" }, "share decided"),
    s(
      "text",
      { transform: "rotate(-90)", x: -y(0.5), y: 11, "text-anchor": "middle" },
      "of these wrong",
    ),
    s("path", { class: "line", d: path }),
    curve.map((point) =>
      s(
        "circle",
        { class: "point", cx: x(point.coverage), cy: y(point.error / top), r: 7 },
        s(
          "title",
          {},
          `threshold ${point.threshold.toFixed(3)}: ${percent(point.coverage)} decided, ${percent(point.error)} of them wrong`,
        ),
      ),
    ),
    now &&
      now.error !== null &&
      s("circle", { class: "dot", cx: x(now.coverage), cy: y(now.error / top), r: 5.5 }),
  );
}

function drawing(told, width, height, ...drawn) {
  return s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": told }, ...drawn);
}
