// Charts in SVG with titles, axes, hover words and, for each, the same figures as a table.
import { h, put, svg, text } from './dom.js';
import { number, percent } from './format.js';
import { t, word } from './i18n.js';
import { SEVERITIES } from './marks.js';

const HIGH = 250;
const EDGE = { top: 14, right: 14, bottom: 44, left: 46 };

// The smallest of 1, 2, 5 times a power of ten (and their like) that makes at most five steps up to `most`.
function scale(most) {
  const raw = Math.max(1, most) / 5;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = Math.max(1, [1, 2, 5, 10].map((each) => each * power).find((each) => each >= raw - 1e-9));
  const top = Math.max(step, Math.ceil(most / step) * step);
  return { top, steps: Array.from({ length: Math.round(top / step) + 1 }, (_, i) => i * step) };
}

const label = (x, y, say, props = {}) => svg('text', { x, y, class: 'tick', ...props }, say);

const shortened = (name, most) => (name.length > most ? `${name.slice(0, Math.max(1, most - 1))}…` : name);

// A figure: `draw(width)` gives the picture anew for each width, `table()` the same as rows, the first of them headings.
function figure(title, { draw, table, empty, legend = null, hook }) {
  const picture = h('div', { class: 'chart-picture' });
  const tip = h('div', { class: 'chart-tip', hidden: true, role: 'status' });
  const numbers = h('div', { class: 'chart-table', hidden: true });
  const toggle = h('button', {
    type: 'button', class: 'quiet no-print', 'aria-pressed': false, 'data-test': `${hook}-table`,
    onclick: () => {
      numbers.hidden = !numbers.hidden;
      picture.hidden = !numbers.hidden;
      toggle.setAttribute('aria-pressed', String(!numbers.hidden));
    },
  }, () => t('chart.table'));
  const [head, ...rows] = table();
  put(numbers, h('table', { class: 'figures' },
    h('thead', null, h('tr', null, head.map((words) => h('th', { scope: 'col' }, words)))),
    h('tbody', null, rows.map(([first, ...rest]) => h('tr', null, h('th', { scope: 'row' }, first), rest.map((value) => h('td', null, value)))))));
  const hover = {
    show(event, words) {
      put(tip, words.map((line) => h('div', null, line)));
      tip.hidden = false;
      const place = picture.getBoundingClientRect();
      const at = event.currentTarget.getBoundingClientRect();
      tip.style.left = `${Math.min(place.width - 90, Math.max(90, at.left + at.width / 2 - place.left))}px`;
      tip.style.top = `${Math.max(0, at.top - place.top)}px`;
    },
    hide() { tip.hidden = true; },
  };
  let width = 0;
  const paint = (now) => {
    if (now < 60 || Math.abs(now - width) < 2) return;
    width = now;
    put(picture, empty ? h('p', { class: 'placeholder' }, text(() => t('chart.empty'))) : draw(Math.floor(now), hover), tip);
  };
  const node = h('figure', { class: 'chart', 'data-test': hook },
    h('figcaption', null, h('span', { class: 'chart-title' }, title), legend, empty ? null : toggle), picture, numbers);
  new ResizeObserver(([entry]) => paint(entry.contentRect.width)).observe(picture);
  return node;
}

// A bar that says its words and can be chosen.
function bar(shape, words, hover, choose) {
  const node = svg('g', {
    class: choose ? 'bar chosen-able' : 'bar', tabindex: choose ? '0' : null, role: choose ? 'button' : 'img', 'aria-label': () => words().join(', '),
    onpointerenter: (event) => hover.show(event, words()), onpointerleave: hover.hide,
    onfocus: (event) => hover.show(event, words()), onblur: hover.hide,
  }, shape);
  if (choose) {
    node.addEventListener('click', choose);
    node.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' && event.key !== ' ') return;
      event.preventDefault();
      choose();
    });
  }
  return node;
}

function axes(width, height, ticks, top, words) {
  const y = (value) => EDGE.top + height * (1 - value / top);
  return [
    ticks.map((value) => [
      svg('line', { class: value ? 'grid' : 'axis', x1: EDGE.left, x2: EDGE.left + width, y1: y(value), y2: y(value) }),
      label(EDGE.left - 6, y(value) + 4, () => number(value), { 'text-anchor': 'end' }),
    ]),
    label(12, EDGE.top + height / 2, words.y, { class: 'axis-words', 'text-anchor': 'middle', transform: `rotate(-90 12 ${EDGE.top + height / 2})` }),
    label(EDGE.left + width / 2, HIGH - 4, words.x, { class: 'axis-words', 'text-anchor': 'middle' }),
  ];
}

const frame = (width, title, ...children) => svg('svg', { width, height: HIGH, viewBox: `0 0 ${width} ${HIGH}`, role: 'group', 'aria-label': title }, children);

export function stacked(title, series, { when, whenFull, x, choose = null, hook }) {
  const total = ({ counts }) => SEVERITIES.reduce((sum, name) => sum + (counts[name] ?? 0), 0);
  return figure(title, {
    hook,
    empty: !series.some(total),
    legend: h('span', { class: 'legend' }, [...SEVERITIES].map((name) => h('span', { class: `key key-${name}` }, () => word('severity', name)))),
    table: () => [[x, ...SEVERITIES.map((name) => () => word('severity', name))],
      ...series.map((point) => [() => whenFull(point.at), ...SEVERITIES.map((name) => String(point.counts[name] ?? 0))])],
    draw(full, hover) {
      const [width, height] = [full - EDGE.left - EDGE.right, HIGH - EDGE.top - EDGE.bottom];
      const { top, steps } = scale(Math.max(...series.map(total)));
      const slot = width / series.length;
      const every = Math.ceil(64 / slot);
      const bars = series.map((point, i) => {
        let below = 0;
        const left = EDGE.left + i * slot + slot * 0.12;
        const parts = [...SEVERITIES].reverse().map((name) => {
          const count = point.counts[name] ?? 0;
          if (!count) return null;
          below += count;
          return svg('rect', { class: `fill-${name}`, x: left, width: Math.max(1, slot * 0.76), y: EDGE.top + height * (1 - below / top), height: (height * count) / top });
        });
        const words = () => [whenFull(point.at), ...SEVERITIES.filter((name) => point.counts[name]).map((name) => `${word('severity', name)} ${point.counts[name]}`)];
        const room = svg('rect', { class: 'room', x: EDGE.left + i * slot, width: slot, y: EDGE.top, height });
        return total(point) ? bar([room, parts], words, hover, choose && (() => choose(point, i))) : null;
      });
      const marks = series.map((point, i) => i % every === 0 && label(EDGE.left + (i + 0.5) * slot, HIGH - 24, () => when(point.at), { 'text-anchor': 'middle' }));
      return frame(full, title, axes(width, height, steps, top, { x, y: () => t('chart.alarms') }), bars, marks);
    },
  });
}

export function pareto(title, classes, { most = 12, choose = null, hook }) {
  const sum = classes.reduce((all, { count }) => all + count, 0);
  const shown = classes.slice(0, most);
  let so = 0;
  const points = shown.map((each) => ({ ...each, cumulative: (so += each.count) / sum }));
  return figure(title, {
    hook,
    empty: !points.length,
    table: () => [[() => t('column.class'), () => t('chart.alarms'), () => t('chart.cumulative')],
      ...points.map((point) => [point.class, () => number(point.count), () => percent(point.cumulative, 1)])],
    draw(full, hover) {
      const right = 34;
      const { top, steps } = scale(points[0].count);
      const room = 26;
      const [width, height] = [full - EDGE.left - EDGE.right - right, HIGH - EDGE.top - EDGE.bottom - room];
      const slot = width / points.length;
      const middle = (i) => EDGE.left + (i + 0.5) * slot;
      const y = (share) => EDGE.top + height * (1 - share);
      const bars = points.map((point, i) => bar([
        svg('rect', { class: 'room', x: EDGE.left + i * slot, width: slot, y: EDGE.top, height }),
        svg('rect', { class: 'fill-plain', x: EDGE.left + i * slot + slot * 0.14, width: slot * 0.72, y: y(point.count / top), height: (height * point.count) / top }),
        label(0, 0, shortened(point.class.split('/').at(-1), 11), {
          'text-anchor': 'end', transform: `translate(${middle(i) + 4} ${EDGE.top + height + 14}) rotate(-36)`,
        }),
      ], () => [point.class, word('kind', point.kind), `${number(point.count)} · ${percent(point.count / sum, 1)}`, `${t('chart.cumulative')} ${percent(point.cumulative, 1)}`], hover, choose && (() => choose(point))));
      const line = [
        svg('polyline', { class: 'cumulative', points: points.map((point, i) => `${middle(i)},${y(point.cumulative)}`).join(' ') }),
        points.map((point, i) => svg('circle', { class: 'cumulative-dot', cx: middle(i), cy: y(point.cumulative), r: 3 })),
        [0, 0.5, 1].map((share) => label(EDGE.left + width + 6, y(share) + 4, () => percent(share))),
      ];
      return frame(full, title, axes(width, height, steps, top, { x: () => t('column.class'), y: () => t('chart.alarms') }), bars, line);
    },
  });
}

// Cameras by their names, with the gateway's where two are called the same.
export function cameras(title, entries, { most = 10, choose = null, hook }) {
  const shown = entries.slice(0, most);
  const words = ({ site, gateway, camera }) => `${site} / ${gateway} / ${camera}`;
  const name = ({ gateway, camera }) => (shown.filter((other) => other.camera === camera).length > 1 ? `${gateway}/${camera}` : camera);
  return figure(title, {
    hook,
    empty: !shown.length,
    table: () => [[() => t('column.where'), () => t('chart.alarms')], ...shown.map((entry) => [words(entry), () => number(entry.count)])],
    draw(full, hover) {
      const left = Math.min(150, full * 0.36);
      const width = full - left - 50;
      const slot = Math.min(26, (HIGH - 40) / shown.length);
      const { top, steps } = scale(shown[0].count);
      const x = (value) => left + (width * value) / top;
      const bottom = 8 + slot * shown.length;
      return frame(full, title,
        steps.map((value) => [svg('line', { class: value ? 'grid' : 'axis', x1: x(value), x2: x(value), y1: 8, y2: bottom }),
          label(x(value), bottom + 14, () => number(value), { 'text-anchor': 'middle' })]),
        shown.map((entry, i) => bar([
          svg('rect', { class: 'room', x: 0, width: full, y: 8 + i * slot, height: slot }),
          svg('rect', { class: 'fill-plain', x: left, width: Math.max(1, x(entry.count) - left), y: 8 + i * slot + slot * 0.16, height: slot * 0.68 }),
          label(left - 6, 8 + (i + 0.5) * slot + 4, shortened(name(entry), Math.floor(left / 7)), { 'text-anchor': 'end' }),
          label(x(entry.count) + 5, 8 + (i + 0.5) * slot + 4, () => number(entry.count)),
        ], () => [words(entry), number(entry.count)], hover, choose && (() => choose(entry)))),
        label(left + width / 2, HIGH - 4, () => t('chart.alarms'), { class: 'axis-words', 'text-anchor': 'middle' }));
    },
  });
}
